"""Which rows of the prediction log may be trained on."""

import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.monitoring.predictions.columns import labels_folder, list_files, log_folder
from lastgood.pipelines.data import Array, Data
from lastgood.pipelines.errors import DataError
from lastgood.pipelines.find import find_pipeline
from lastgood.pipelines.logged_rows import Counts, read_time, take_rows, to_keys
from lastgood.settings import Settings
from tests.pipelines.updating import BEGAN, MODEL, make_project, new_rows, write_log


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A project."""
    return make_project(tmp_path / "project")


@pytest.fixture
def data(settings: Settings) -> Data:
    """What its pipeline loads."""
    return find_pipeline(settings, MODEL).pipeline.load()


def take(settings: Settings, data: Data, since: str | None = None, max_rows: int = 10_000, days: float = 7) -> tuple[Array, Array, Counts]:
    folder = log_folder(settings.home, MODEL)
    return take_rows(folder, data, input_name="features", since=read_time(since), max_rows=max_rows, label_days=days)


def test_rows_come_as_they_were_asked(settings: Settings, data: Data) -> None:
    """The same numbers, with the label that was told."""
    x, y = new_rows(30)
    write_log(settings, x, y)
    taken, labels, counts = take(settings, data)
    np.testing.assert_array_equal(x, taken)
    np.testing.assert_array_equal(y, labels)
    assert (30, 30) == (counts.labelled, counts.used)


def test_without_a_log_there_are_none(settings: Settings, data: Data) -> None:
    """And nothing fails."""
    taken, _, counts = take(settings, data)
    assert ((0, 6), 0, None) == (taken.shape, counts.used, counts.until)


def test_evaluation_rows_cannot_be_sneaked_in(settings: Settings, data: Data) -> None:
    """Neither under the name of production, nor with minus zeros for zeros, nor as evaluation traffic with changed numbers."""
    evaluation, labels = data.evaluation["clean"]
    write_log(settings, evaluation[:50], labels[:50], name="plain")
    disguised = evaluation[50:100].copy()
    disguised[:, 4] = -0.0
    write_log(settings, disguised, labels[50:100], name="minus-zero", at=BEGAN + timedelta(hours=1))
    noisy, noisy_labels = data.evaluation["noisy"]
    write_log(settings, noisy[:20], 1 - noisy_labels[:20], name="other-label", at=BEGAN + timedelta(hours=2))
    write_log(settings, evaluation[100:130] + 0.5, labels[100:130], traffic="evaluation", name="named", at=BEGAN + timedelta(hours=3))
    fresh, fresh_labels = new_rows(10)
    write_log(settings, fresh, fresh_labels, name="fresh", at=BEGAN + timedelta(hours=4))
    taken, _, counts = take(settings, data)
    np.testing.assert_array_equal(fresh, taken)
    assert (160, 30, 120, 0, 10) == (counts.labelled, counts.evaluation_traffic, counts.evaluation_rows, counts.unusable, counts.used)


def test_the_same_rows_are_new_once_and_a_late_label_makes_an_old_row_new(settings: Settings, data: Data) -> None:
    """What counts is when the label came."""
    write_log(settings, *new_rows(20), name="early")
    _, _, first = take(settings, data)
    assert 0 == take(settings, data, first.until)[2].used
    late, labels = new_rows(5, seed=9)
    write_log(settings, late, labels, name="late", label_after=timedelta(days=3))
    taken, _, second = take(settings, data, first.until)
    np.testing.assert_array_equal(late, taken)
    assert 0 == take(settings, data, second.until)[2].used
    assert first.until is not None
    assert second.until is not None
    assert first.until < second.until
    assert 0 == take(settings, data, second.until, days=0.01)[2].labelled


def test_a_label_told_again_makes_no_row_new(settings: Settings, data: Data) -> None:
    """The first one holds."""
    x, y = new_rows(8)
    write_log(settings, x, y)
    until = take(settings, data)[2].until
    write_log(settings, x, 1 - y, label_after=timedelta(hours=5))
    assert 0 == take(settings, data, until)[2].used


def test_a_row_that_reaches_the_disk_after_its_label_is_taken_the_next_time(settings: Settings, data: Data) -> None:
    """Answers and labels are written apart; no row is lost between two updates."""
    x, y = new_rows(200)
    write_log(settings, x, y, answered=slice(100))
    first = take(settings, data)[2]
    assert 100 == first.used
    write_log(settings, x, y, answered=slice(100, None), labelled=slice(0))
    taken, _, second = take(settings, data, first.until)
    np.testing.assert_array_equal(x[100:], taken)
    assert 0 == take(settings, data, second.until)[2].used


def test_a_row_that_never_came_is_awaited_for_minutes_only(settings: Settings, data: Data) -> None:
    """Then the newest label counts again."""
    write_log(settings, *new_rows(5), answered=slice(1, None))
    waits = take(settings, data)[2].until
    for path in list_files(labels_folder(log_folder(settings.home, MODEL))):
        os.utime(path, (1.0, 1.0))
    goes_on = take(settings, data)[2].until
    assert (BEGAN + timedelta(seconds=1, microseconds=-1), BEGAN + timedelta(seconds=5)) == (read_time(waits), read_time(goes_on))


def test_what_cannot_be_a_row_is_left_out_and_counted(settings: Settings, data: Data) -> None:
    """Not finite, of another width, of a class nobody trained."""
    x, y = new_rows(6)
    x[0, 0] = np.nan
    y[1] = 7
    write_log(settings, x, y)
    write_log(settings, x[:2, :3], y[:2], name="narrow", at=BEGAN + timedelta(hours=1))
    counts = take(settings, data)[2]
    assert (8, 4, 4) == (counts.labelled, counts.unusable, counts.used)


def test_the_newest_rows_are_kept_where_there_are_too_many(settings: Settings, data: Data) -> None:
    """And the others are not new again."""
    x, y = new_rows(30)
    write_log(settings, x, y)
    taken, _, counts = take(settings, data, max_rows=10)
    np.testing.assert_array_equal(x[-10:], taken)
    assert (10, 20) == (counts.used, counts.over_limit)


def test_a_log_without_the_input_is_a_sentence(settings: Settings, data: Data) -> None:
    """It was left out on purpose, and that has this price."""
    write_log(settings, *new_rows(5), input_name="something")
    with pytest.raises(DataError, match=r"no input 'features' \(it has: something\)"):
        take(settings, data)


def test_another_versions_inputs_hide_no_rows(settings: Settings, data: Data) -> None:
    """Its rows are counted as unusable, the earlier ones are trained on."""
    x, y = new_rows(9)
    write_log(settings, x, y)
    write_log(settings, x[:2], y[:2], input_name="pixels", name="other", at=BEGAN + timedelta(hours=1))
    taken, _, counts = take(settings, data)
    np.testing.assert_array_equal(x, taken)
    assert (11, 2, 9) == (counts.labelled, counts.unusable, counts.used)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=8))
def test_keys_are_equal_where_the_numbers_are(row: list[float]) -> None:
    """Equal rows have one key, others two."""
    x = np.array([row], np.float32)
    assert to_keys(x) == to_keys(x.astype(np.float64)) == to_keys(np.negative(np.negative(x)))
    other = x.copy()
    other[0, 0] = np.nextafter(other[0, 0], np.float32(np.inf)) if np.isfinite(other[0, 0]) else np.float32(0)
    assert (to_keys(x) == to_keys(other)) == bool(np.array_equal(x, other))
