"""Rows of the prediction log, written as the gateway writes them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lastgood.errors import IntegrityError
from lastgood.monitoring.predictions.read import read_rows

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def write(file: Path, minutes: list[int], *, fixed: bool = True) -> None:
    """Write rows at minutes after noon; the input has two elements that say when."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [[float(minute), -float(minute)] for minute in minutes]
    kind = pa.list_(pa.float32(), 2) if fixed else pa.list_(pa.float32())
    times = pa.array([NOON + timedelta(minutes=minute) for minute in minutes], pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"time": times, "version": pa.array([3] * len(rows), pa.int32()), "in/x": pa.array(rows, kind)}), file)


def test_a_window_takes_its_begin_and_not_its_end_from_all_files_in_order(tmp_path: Path) -> None:
    """Files overlap and lists may be of fixed or free length."""
    write(tmp_path / "b.parquet", [30, 0, 60])
    write(tmp_path / "a.parquet", [59, 20], fixed=False)
    found = read_rows(tmp_path, since=NOON, until=NOON + timedelta(hours=1), columns=["in/x", "version", "time"])
    assert [[0, 0], [20, -20], [30, -30], [59, -59]] == found["in/x"].tolist()
    assert [3] * 4 == found["version"].tolist()
    assert np.datetime64("2026-05-04T12:20") == found["time"][1]


def test_no_folder_no_files_and_no_rows_are_nothing(tmp_path: Path) -> None:
    """A model nobody has asked yet is no error."""
    assert {} == read_rows(tmp_path / "away", since=NOON, until=NOON + DAY, columns=["version"])
    write(tmp_path / "a.parquet", [0])
    assert {} == read_rows(tmp_path, since=NOON - DAY, until=NOON, columns=["version"])


def test_a_file_that_is_no_log_is_named(tmp_path: Path) -> None:
    """Damaged, or with other columns."""
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(IntegrityError, match=r"bad\.parquet"):
        read_rows(tmp_path, since=NOON, until=NOON + DAY, columns=["version"])
    write(tmp_path / "bad.parquet", [0])
    with pytest.raises(IntegrityError, match="out/p"):
        read_rows(tmp_path, since=NOON, until=NOON + DAY, columns=["out/p"])


def test_rows_of_different_lengths_are_refused(tmp_path: Path) -> None:
    """They are no array."""
    times = pa.array([NOON, NOON], pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"time": times, "in/x": pa.array([[1.0], [1.0, 2.0]])}), tmp_path / "a.parquet")
    with pytest.raises(IntegrityError, match="3 elements in 2 rows"):
        read_rows(tmp_path, since=NOON, until=NOON + DAY, columns=["in/x"])
