"""
Writing the prediction log: rows are gathered, and a file is written whole or not at all.

A file has its columns by name, so that two files may differ in their inputs. What is over the limits of size and age is
removed when a file is written, the oldest first.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from lastgood.monitoring.predictions.columns import INPUT, OUTPUT, file_name, labels_folder
from lastgood.monitoring.predictions.errors import LogTooSmallError
from lastgood.monitoring.predictions.gather import Array, Buffers, Gathered
from lastgood.monitoring.predictions.read import load_arrow
from lastgood.monitoring.predictions.redact import Redact, Redaction
from lastgood.monitoring.predictions.retention import Retention

FILE_ROWS: Final = 20_000
FILE_BYTES: Final = 32 << 20  # gathered in memory before files are written
FILE_SECONDS: Final = 10.0
_FILES: Final = 4  # at least so many have room under the limit of size
_ABANDONED_SECONDS: Final = 3_600.0


class PredictionLog:
    """One model's log; belongs to one thread of one process."""

    def __init__(
        self, folder: Path, *, max_bytes: int, max_seconds: float, leave_out: Sequence[str] = (), redact: Redact | None = None
    ) -> None:
        """
        Prepare; the folder is made when there is something to write. What a writer that was killed left half written is removed.

        Args:
            folder: From `lastgood.monitoring.predictions.columns.log_folder`.
            max_bytes: Size of all files; the oldest go first.
            max_seconds: Age of a file.
            leave_out: Inputs that are never written.
            redact: Is given the columns by name (lists, and arrays "row …") and gives those to be written; of labels see `Redaction`.

        Raises:
            LogMissingError: pyarrow is not installed.
        """
        load_arrow()
        self._folder = folder
        self._max_bytes = max_bytes
        self._retention = Retention((folder, labels_folder(folder)), max_bytes=max_bytes, max_seconds=max_seconds)
        self._file_bytes = min(FILE_BYTES, max_bytes // _FILES)
        self._leave_out = frozenset(leave_out)
        self._redaction = Redaction(redact)
        self._numbers = itertools.count()
        self._answers, self._labels = Buffers(), Buffers()
        self.rows = 0  # answers written
        self.labels = 0  # labels written
        self.failed = 0  # rows of either that could not be written
        _remove_abandoned(folder)
        _remove_abandoned(labels_folder(folder))

    def add(self, columns: Mapping[str, Sequence[Any]], inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """
        Add answers.

        Args:
            columns: `lastgood.monitoring.predictions.columns.ANSWER_COLUMNS`, a value for each row.
            inputs: "row …" arrays by name.
            outputs: "row …" arrays by name.

        Raises:
            Exception: As `flush` does, where versions have so many different columns that some of them had to be written.
        """
        tensors = {f"{INPUT}{name}": value for name, value in inputs.items() if name not in self._leave_out}
        pushed = self._answers.add(columns, tensors | {f"{OUTPUT}{name}": value for name, value in outputs.items()})
        if pushed is not None:
            self._save_answers(pushed)

    def add_labels(self, times: Sequence[datetime], ids: Sequence[str], labels: Sequence[int]) -> None:
        """Add labels by request id."""
        self._labels.add({"time": times, "id": ids, "label": labels}, {})

    def find_ids(self, ids: Sequence[str], labels: Sequence[int]) -> list[str]:
        """
        Give the ids under which labels' requests were written, none where the redaction leaves none.

        Raises:
            Exception: Whatever the redaction raises.
        """
        found: list[str] = self._redaction.clean_labels(ids, labels).get("id", [])
        return found

    def flush(self, *, everything: bool = False) -> None:
        """
        Write all rows if enough have gathered or some have waited for ten seconds: first answers, then labels, so that no label is on
        disk long before its answer.

        Raises:
            OSError: The files cannot be written; the rows are given up and counted.
            LogTooSmallError: A row is larger than the log may be.
            Exception: Whatever the redaction raises; nothing of these rows is written.
        """
        if not everything and not self._is_due():
            return
        problem: Exception | None = None
        for save, taken in ((self._save_answers, self._answers.take()), (self._save_labels, self._labels.take())):
            for gathered in taken:
                try:
                    save(gathered)
                except Exception as exc:  # noqa: BLE001 - raised below, after the others had their turn
                    problem = problem or exc
        if problem is not None:
            raise problem

    def _is_due(self) -> bool:
        waiting = [*self._answers, *self._labels]
        return bool(waiting) and (
            sum(gathered.rows for gathered in waiting) >= FILE_ROWS
            or sum(gathered.nbytes for gathered in waiting) >= self._file_bytes
            or time.monotonic() - min(gathered.since for gathered in waiting) >= FILE_SECONDS
        )

    def _save_answers(self, gathered: Gathered) -> None:
        for rows in self._save(gathered, self._folder, self._redaction.clean_answers):
            self.rows += rows

    def _save_labels(self, gathered: Gathered) -> None:
        def clean(table: dict[str, Any]) -> dict[str, Any]:
            found = self._redaction.clean_labels(table["id"], table["label"])
            return {"time": table["time"], **found} if found else {}

        for rows in self._save(gathered, labels_folder(self._folder), clean):
            self.labels += rows

    def _save(self, gathered: Gathered, folder: Path, clean: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[int]:
        """Write files; give how many rows each has."""
        left = gathered.rows
        try:
            for table in gathered.split(self._file_bytes):
                rows, last = len(table["time"]), max(table["time"])
                if cleaned := clean(table):
                    self._write(cleaned, last, folder)
                left -= rows
                yield rows if cleaned else 0
        finally:
            self.failed += left

    def _write(self, table: dict[str, Any], last: datetime, folder: Path) -> None:
        arrow = load_arrow()
        arrays = {name: _to_arrow(arrow, name, value) for name, value in table.items()}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / file_name(last, next(self._numbers) % 10_000)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            arrow.parquet.write_table(arrow.table(arrays), fresh, compression="zstd")
            if (size := fresh.stat().st_size) > self._max_bytes:
                raise LogTooSmallError(
                    f"Rows of the prediction log need {size:,} bytes, all of it may have {self._max_bytes:,}: raise max_bytes, or leave "
                    "inputs out (leave_out)."
                )
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        self._retention.add(path, size)


def _remove_abandoned(folder: Path) -> None:
    """Remove what was half written by a process that is no more, or by one whose number another has now."""
    for path in folder.glob(".*.parquet.*"):
        number = path.name.rpartition(".")[2]
        if not number.isdecimal():
            continue
        try:
            if int(number) != os.getpid() and time.time() - path.stat().st_mtime < _ABANDONED_SECONDS:
                os.kill(int(number), 0)
                continue
        except ProcessLookupError:
            pass
        except (OSError, OverflowError):  # alive, of another user; or gone meanwhile
            continue
        path.unlink(missing_ok=True)


def _to_arrow(arrow: Any, name: str, value: Any) -> Any:
    if name == "time":
        return arrow.array(value, arrow.timestamp("us", tz="UTC"))
    if name in {"role", "traffic", "slice", "outcome"}:
        return arrow.array(value, arrow.string()).dictionary_encode()
    if not isinstance(value, np.ndarray):
        kinds = {"version": arrow.int32(), "answer": arrow.int64(), "label": arrow.int64(), "confidence": arrow.float32()}
        return arrow.array(value, kinds.get(name))
    if value.dtype.kind == "O":
        return arrow.array(list(value))
    flat = value.reshape(len(value), -1)
    return (
        arrow.FixedSizeListArray.from_arrays(arrow.array(flat.ravel()), max(flat.shape[1], 1)) if flat.shape[1] else arrow.nulls(len(value))
    )
