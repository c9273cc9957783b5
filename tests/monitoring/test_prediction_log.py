"""The prediction log: what is written comes back, what is over the limits goes, and what cannot be written is said."""

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.errors import ConfigurationError
from lastgood.monitoring.predictions import retention, write
from lastgood.monitoring.predictions.columns import labels_folder, list_files
from lastgood.monitoring.predictions.errors import LogDamagedError, LogTooSmallError, RedactionError
from lastgood.monitoring.predictions.gather import SETS
from lastgood.monitoring.predictions.read import LeftOut, find_answers, read_labelled, read_rows
from lastgood.monitoring.predictions.redact import Redact
from lastgood.monitoring.predictions.settings import read_predictions
from lastgood.monitoring.predictions.write import PredictionLog

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def open_log(folder: Path, *, max_bytes: int = 1 << 30, redact: Redact | None = None, leave_out: tuple[str, ...] = ()) -> PredictionLog:
    return PredictionLog(folder, max_bytes=max_bytes, max_seconds=1e9, redact=redact, leave_out=leave_out)


def columns(ids: list[str], *, version: int = 1, role: str = "live", at: datetime = NOW, answer: int | None = 3) -> dict[str, list[Any]]:
    count = len(ids)
    return {
        "time": [at] * count,
        "id": ids,
        "version": [version] * count,
        "role": [role] * count,
        "traffic": ["production"] * count,
        "slice": [""] * count,
        "outcome": ["ok"] * count,
        "answer": [answer] * count,
        "confidence": [0.5] * count,
    }


@given(rows=st.integers(1, 50), width=st.integers(1, 4), kind=st.sampled_from(["float32", "float64", "int64", "bool"]))
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: int, width: int, kind: str) -> None:
    """Bit for bit, whatever the type and the shape of a row."""
    folder = tmp_path_factory.mktemp("log")
    x = np.random.default_rng(rows).integers(0, 2, (rows, width)).astype(kind)
    log = open_log(folder)
    log.add(columns([str(index) for index in range(rows)]), {"x": x}, {"y": x[:, :1]})
    log.flush(everything=True)
    found = read_rows(folder)
    assert [str(index) for index in range(rows)] == found["id"].tolist()
    assert np.array_equal(x, found["in/x"])
    assert x.dtype == found["in/x"].dtype


def test_rows_of_other_shapes_are_lists_of_their_own(tmp_path: Path) -> None:
    """A model with a dynamic axis gets rows of several lengths."""
    log = open_log(tmp_path)
    log.add(columns(["a"]), {"x": np.ones((1, 2), np.float32)}, {})
    log.add(columns(["b"]), {"x": np.ones((1, 3), np.float32)}, {})
    log.flush(everything=True)
    assert [2, 3] == [len(row) for row in read_rows(tmp_path)["in/x"]]


def test_a_stretch_of_time_is_read_without_the_rest(tmp_path: Path) -> None:
    """The end is not part of it."""
    log = open_log(tmp_path)
    for hours in (0, 1, 2):
        log.add(columns([f"{hours}"], at=NOW + timedelta(hours=hours)), {}, {})
        log.flush(everything=True)
    assert ["1"] == read_rows(tmp_path, since=NOW + timedelta(minutes=30), until=NOW + timedelta(hours=2), columns=("id",))["id"].tolist()


def test_labelled_rows_are_joined_once_and_without_the_shadows(tmp_path: Path) -> None:
    """The first label counts; an answer that was never returned is nobody's."""
    log = open_log(tmp_path)
    log.add(columns(["a", "b", "c"]), {"x": np.arange(3, dtype=np.float32)[:, None]}, {})
    log.add(columns(["a"], version=2, role="shadow"), {"x": np.zeros((1, 1), np.float32)}, {})
    log.add_labels([NOW, NOW, NOW], ["c", "a", "a"], [3, 4, 5])
    log.flush(everything=True)
    found = read_labelled(tmp_path)
    assert [("a", 3, 4, 0.0), ("c", 3, 3, 2.0)] == list(
        zip(found.ids.tolist(), found.answer.tolist(), found.label.tolist(), found.inputs["x"][:, 0].tolist(), strict=True)
    )


def write_versions(folder: Path) -> None:
    """Three files: the middle one is of a version with other inputs."""
    log = open_log(folder)
    for number, name in enumerate(("x", "y", "x")):
        key = f"{number}"
        log.add(columns([key], version=1 + number % 2, at=NOW + timedelta(minutes=number)), {name: np.full((1, 2), number, np.float32)}, {})
        log.add_labels([NOW + timedelta(minutes=number)], [key], [number])
        log.flush(everything=True)


def test_a_file_with_other_columns_hides_no_rows_of_the_others(tmp_path: Path) -> None:
    """Whichever comes last; where all columns are asked for it has None in those that it lacks."""
    write_versions(tmp_path)
    found = read_rows(tmp_path)
    assert ["0", "1", "2"] == found["id"].tolist()
    assert [[0.0, 0.0], None, [2.0, 2.0]] == [None if row is None else row.tolist() for row in found["in/x"]]
    assert ["0", "1", "2"] == read_labelled(tmp_path, until=NOW + timedelta(minutes=3)).ids.tolist()
    assert ["0", "1"] == read_labelled(tmp_path, until=NOW + timedelta(minutes=2)).ids.tolist()


def test_one_versions_rows_are_read_whatever_the_others_look_like(tmp_path: Path) -> None:
    """Inputs of one name and two widths are one array each."""
    log = open_log(tmp_path)
    for version in (1, 2):
        log.add(columns([f"{version}"], version=version), {"x": np.ones((1, version + 1), np.float32)}, {})
        log.flush(everything=True)
    assert [(1, 2), (1, 3)] == [read_rows(tmp_path, columns=("in/x",), version=version)["in/x"].shape for version in (1, 2)]
    assert (0,) == read_rows(tmp_path, columns=("id",), version=3)["id"].shape


def test_a_file_that_lacks_what_is_asked_for_is_left_out_and_told(tmp_path: Path) -> None:
    """With its rows and what it lacks; nothing is told of a file that has no such rows."""
    write_versions(tmp_path)
    told: list[LeftOut] = []
    assert ["0", "2"] == read_rows(tmp_path, columns=("id", "in/x"), on_left_out=told.append)["id"].tolist()
    assert [(1, ("in/x",))] == [(own.rows, own.lacks) for own in told]
    told.clear()
    assert [[0.0, 0.0], [2.0, 2.0]] == read_rows(tmp_path, columns=("in/x",), version=1, on_left_out=told.append)["in/x"].tolist()
    assert [] == told
    labelled = read_labelled(tmp_path, inputs=("x",))
    assert (["0", "2"], frozenset({"1"}), frozenset({"x", "y"})) == (labelled.ids.tolist(), labelled.lacking, labelled.named)
    assert np.float32 == labelled.inputs["x"].dtype


def test_an_answer_of_long_ago_is_found(tmp_path: Path) -> None:
    """By its id, in any file."""
    log = open_log(tmp_path)
    for key in ("a", "b"):
        log.add(columns([key]), {}, {})
        log.flush(everything=True)
    assert [("a", 1, "live", 3)] == [(row["id"], row["version"], row["role"], row["answer"]) for row in find_answers(tmp_path, ["a", "z"])]


def test_the_oldest_files_go_first(tmp_path: Path) -> None:
    """The log keeps to its size."""
    log = open_log(tmp_path, max_bytes=40_000)
    for number in range(10):
        noise = np.random.default_rng(number).normal(size=(1, 1000)).astype(np.float32)
        log.add(columns([str(number)], at=NOW + timedelta(minutes=number)), {"x": noise}, {})
        log.flush(everything=True)
    left = read_rows(tmp_path, columns=("id",))["id"].tolist()
    assert "9" == left[-1]
    assert 1 < len(left) < 10
    assert sum(path.stat().st_size for path in list_files(tmp_path)) <= 40_000


def test_what_an_earlier_writer_left_goes_first_and_what_is_too_old_goes(tmp_path: Path) -> None:
    """Answers and labels; a file that somebody removed by hand meanwhile is no problem."""
    for number in range(4):
        log = open_log(tmp_path)
        log.add(columns([str(number)], at=NOW + timedelta(minutes=number)), {}, {})
        log.add_labels([NOW + timedelta(minutes=number)], [str(number)], [1])
        log.flush(everything=True)
    age = (datetime.now(UTC) - NOW).total_seconds()
    log = PredictionLog(tmp_path, max_bytes=1 << 30, max_seconds=age - 90)
    log.add(columns(["4"], at=datetime.now(UTC)), {}, {})
    log.flush(everything=True)
    assert ["2", "3", "4"] == read_rows(tmp_path, columns=("id",))["id"].tolist()
    assert 2 == len(list_files(labels_folder(tmp_path)))
    list_files(tmp_path)[0].unlink()
    log.add(columns(["5"], at=datetime.now(UTC)), {}, {})
    log.flush(everything=True)
    assert ["3", "4", "5"] == read_rows(tmp_path, columns=("id",))["id"].tolist()


def test_room_that_somebody_made_by_hand_is_seen_within_the_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then older files may go for those that are gone."""
    log = open_log(tmp_path, max_bytes=40_000)

    def add(number: int) -> None:
        noise = np.random.default_rng(number).normal(size=(1, 1000)).astype(np.float32)
        log.add(columns([str(number)], at=NOW + timedelta(minutes=number)), {"x": noise}, {})
        log.flush(everything=True)

    for number in range(4):
        add(number)
    for path in list_files(tmp_path)[1:]:
        path.unlink()
    monkeypatch.setattr(retention, "LISTED_SECONDS", 0.0)
    for number in range(4, 7):
        add(number)
    assert ["0", "4", "5", "6"] == read_rows(tmp_path, columns=("id",))["id"].tolist()


def test_rows_that_need_more_than_a_file_may_have_leave_the_newest(tmp_path: Path) -> None:
    """Written at once, and still within the limit of size."""
    log = open_log(tmp_path, max_bytes=40_000)
    noise = np.random.default_rng(1).normal(size=(30, 1000)).astype(np.float32)
    times = [NOW + timedelta(seconds=number) for number in range(30)]
    log.add(columns([str(number) for number in range(30)]) | {"time": times}, {"x": noise}, {})
    log.flush(everything=True)
    left = read_rows(tmp_path, columns=("id",))["id"].tolist()
    assert "29" == left[-1]
    assert 1 < len(left) < 30
    assert sum(path.stat().st_size for path in list_files(tmp_path)) <= 40_000


def test_a_row_larger_than_the_log_is_said_and_removes_no_other(tmp_path: Path) -> None:
    """What to do about it, too."""
    log = open_log(tmp_path, max_bytes=20_000)
    log.add(columns(["small"]), {"x": np.ones((1, 1), np.float32)}, {})
    log.flush(everything=True)
    log.add(columns(["large"]), {"x": np.random.default_rng(1).normal(size=(1, 10_000)).astype(np.float32)}, {})
    with pytest.raises(LogTooSmallError, match="raise max_bytes"):
        log.flush(everything=True)
    assert (1, 1) == (log.rows, log.failed)
    assert ["small"] == read_rows(tmp_path, columns=("id",))["id"].tolist()


def test_versions_that_take_turns_have_a_file_each(tmp_path: Path) -> None:
    """Not one for each batch; and however many there are, no row is lost."""
    log = open_log(tmp_path)
    for number in range(40):
        log.add(columns([str(number)]), {"x": np.ones((1, 1), np.float32)}, {f"y{number % 2}": np.ones((1, 1), np.float32)})
    log.flush(everything=True)
    assert 2 == len(list_files(tmp_path))
    for number in range(40, 50):
        log.add(columns([str(number)]), {f"x{number}": np.ones((1, 1), np.float32)}, {})
    assert 2 + 10 - SETS == len(list_files(tmp_path))
    log.flush(everything=True)
    assert {str(number) for number in range(50)} == set(read_rows(tmp_path, columns=("id",))["id"].tolist())


def test_no_label_is_written_before_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes one due makes the other due, and answers come first."""
    written: list[str] = []

    def redact(table: dict[str, Any]) -> dict[str, Any]:
        written.append("labels" if "label" in table else "answers")
        return table

    monkeypatch.setattr(write, "FILE_ROWS", 3)
    log = open_log(tmp_path, redact=redact)
    log.add_labels([NOW, NOW], ["a", "b"], [1, 2])
    log.flush()
    assert [] == written
    log.add(columns(["a"]), {}, {})
    log.flush()
    assert ["answers", "labels"] == written


def test_answers_and_labels_are_counted_apart(tmp_path: Path) -> None:
    """A row of the log is an answer."""
    log = open_log(tmp_path)
    log.add(columns(["a"]), {}, {})
    log.add_labels([NOW, NOW], ["a", "b"], [1, 2])
    log.flush(everything=True)
    assert (1, 2, 0) == (log.rows, log.labels, log.failed)


def hide(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def hide_ids(table: dict[str, Any]) -> dict[str, Any]:
    return table | {"id": [hide(key) for key in table["id"]]}


def hide_ids_and_inputs(table: dict[str, Any]) -> dict[str, Any]:
    assert len(table["in/x"]) == len(table["id"]) == len(table["slice"])
    return hide_ids({name: values for name, values in table.items() if name != "in/x"})


@pytest.mark.parametrize("redact", [hide_ids, hide_ids_and_inputs])
def test_redacted_ids_join_and_none_is_written_in_clear(tmp_path: Path, redact: Redact) -> None:
    """Neither with the answers nor with the labels, also by a function that looks for a column that labels have not."""
    log = open_log(tmp_path, redact=redact)
    log.add(columns(["somebody", "another"]), {"x": np.ones((2, 1), np.float32)}, {})
    log.add_labels([NOW, NOW], ["another", "somebody"], [4, 5])
    log.flush(everything=True)
    found = read_labelled(tmp_path)
    assert {hide("somebody"): 5, hide("another"): 4} == dict(zip(found.ids.tolist(), found.label.tolist(), strict=True))
    assert [hide("another")] == log.find_ids(["another"], [4])
    files = [*list_files(tmp_path), *list_files(labels_folder(tmp_path))]
    assert 2 == len(files)
    assert not [path for path in files if {"somebody", "another"} & set(read_rows(path.parent, columns=("id",))["id"].tolist())]


def test_a_redaction_that_leaves_no_ids_leaves_no_labels(tmp_path: Path) -> None:
    """For a label without its request is of no use; one that gives other rows is refused."""
    log = open_log(tmp_path, redact=lambda table: {name: values for name, values in table.items() if name != "id"})
    log.add_labels([NOW], ["a"], [1])
    log.flush(everything=True)
    assert ([], 0, 0) == (list_files(labels_folder(tmp_path)), log.labels, log.failed)
    log = open_log(tmp_path, redact=lambda table: table | {"id": table["id"][:1]})
    log.add_labels([NOW, NOW], ["a", "b"], [1, 1])
    with pytest.raises(RedactionError, match="1 ids and 2 labels of 2"):
        log.flush(everything=True)
    assert 2 == log.failed


def test_a_redaction_that_would_end_the_process_is_a_failure_like_others(tmp_path: Path) -> None:
    """And what comes after it is still written."""

    def redact(table: dict[str, Any]) -> dict[str, Any]:
        if "label" not in table:
            raise SystemExit(3)
        return table

    log = open_log(tmp_path, redact=redact)
    log.add(columns(["a"]), {}, {})
    log.add_labels([NOW], ["a"], [1])
    with pytest.raises(RedactionError, match=r"SystemExit\(3\)"):
        log.flush(everything=True)
    assert (0, 1, 1) == (log.rows, log.labels, log.failed)


def test_what_a_killed_writer_left_is_removed_at_the_start(tmp_path: Path) -> None:
    """Not what another one is writing just now."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    labels_folder(tmp_path).mkdir(parents=True)
    left = [
        tmp_path / f".a.parquet.{ended.pid}",
        labels_folder(tmp_path) / f".b.parquet.{ended.pid}",
        tmp_path / f".c.parquet.{os.getpid()}",
    ]
    old, current = tmp_path / f".d.parquet.{os.getppid()}", tmp_path / f".e.parquet.{os.getppid()}"
    for path in (*left, old, current):
        path.write_bytes(b"PAR1")
    os.utime(old, (1.0, 1.0))
    open_log(tmp_path)
    assert [current] == [path for path in (*left, old, current) if path.exists()]


def test_what_is_left_out_or_redacted_is_never_written(tmp_path: Path) -> None:
    """And if the redaction fails, nothing is."""

    def redact(table: dict[str, Any]) -> dict[str, Any]:
        if "bad" in table["id"]:
            raise ValueError("cannot tell what is secret here")
        return {name: value for name, value in table.items() if name != "in/name"}

    log = open_log(tmp_path, redact=redact, leave_out=("address",))
    inputs = {name: np.ones((1, 1), np.float32) for name in ("name", "address", "x")}
    log.add(columns(["a"]), inputs, {})
    log.flush(everything=True)
    assert {"in/x"} == {name for name in read_rows(tmp_path) if name.startswith("in/")}
    log.add(columns(["bad"]), inputs, {})
    with pytest.raises(ValueError, match="secret"):
        log.flush(everything=True)
    assert 1 == log.failed
    assert ["a"] == read_rows(tmp_path, columns=("id",))["id"].tolist()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """With what to do about it."""
    log = open_log(tmp_path)
    log.add(columns(["a"]), {}, {})
    log.flush(everything=True)
    (path,) = list_files(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LogDamagedError, match=path.name):
        read_rows(tmp_path)


def test_labels_lie_beside_the_answers(tmp_path: Path) -> None:
    """In a folder of their own, so that they are no answers."""
    log = open_log(tmp_path)
    log.add_labels([NOW], ["a"], [1])
    log.flush(everything=True)
    assert [] == list_files(tmp_path)
    assert 1 == len(list_files(labels_folder(tmp_path)))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"drift": {"rhythm": "weekly"}}, "rhythm 'weekly'"),
        ({"drift": {"length": 1}}, "length"),
        ({"drift": True}, "drift"),
        ({"redact": "no function"}, "redact"),
        ({"max_bytes": 1}, "max_bytes = 1"),
    ],
)
def test_settings_that_cannot_be_are_named(values: dict[str, Any], says: str) -> None:
    """With the value, and the names there are."""
    with pytest.raises(ConfigurationError, match=says):
        read_predictions(values, model="m", source="lastgood.toml")


def test_drift_can_be_left_out_or_set() -> None:
    """By default it is looked for."""
    settings = [read_predictions(values, model="m", source="x") for values in ({}, {"drift": False}, {"drift": {"run_length": 5_000}})]
    assert [100_000, None, 5_000] == [own.how_drift and own.how_drift.run_length for own in settings]
