"""
Writing the prediction log: rows are gathered, and a file is written whole or not at all.

A file has its columns by name, so that two files may differ in their inputs. What is over the limits of size and age is
removed when a file is written, the oldest first.
"""

import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from lastgood.monitoring.predictions.columns import INPUT, OUTPUT, file_name, labels_folder, list_files
from lastgood.monitoring.predictions.read import load_arrow

Array = np.ndarray[Any, np.dtype[Any]]
Redact = Callable[[dict[str, Any]], dict[str, Any]]
FILE_ROWS: Final = 20_000
FILE_BYTES: Final = 32 << 20  # gathered in memory before a file is written
FILE_SECONDS: Final = 10.0


@dataclass(slots=True)
class Gathered:
    """Columns that wait to be written: plain lists of values, and arrays "row …" by the name of an input or output."""

    columns: dict[str, list[Any]] = field(default_factory=dict)
    tensors: dict[str, list[Array]] = field(default_factory=dict)
    rows: int = 0
    nbytes: int = 0
    since: float = 0.0


class PredictionLog:
    """One model's log; belongs to one thread of one process."""

    def __init__(
        self, folder: Path, *, max_bytes: int, max_seconds: float, leave_out: Sequence[str] = (), redact: Redact | None = None
    ) -> None:
        """
        Prepare; the folder is made when there is something to write.

        Args:
            folder: From `lastgood.monitoring.predictions.columns.log_folder`.
            max_bytes: Size of all files; the oldest go first.
            max_seconds: Age of a file.
            leave_out: Inputs that are never written.
            redact: Is given the columns by name (lists, and arrays "row …") and gives those to be written.

        Raises:
            LogMissingError: pyarrow is not installed.
        """
        load_arrow()
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._leave_out = frozenset(leave_out)
        self._redact = redact
        self._numbers = itertools.count()
        self._answers, self._labels = Gathered(), Gathered()
        self.rows = 0  # written
        self.failed = 0  # rows that could not be written

    def add(self, columns: Mapping[str, Sequence[Any]], inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """
        Add answers.

        Args:
            columns: `lastgood.monitoring.predictions.columns.ANSWER_COLUMNS`, a value for each row.
            inputs: "row …" arrays by name.
            outputs: "row …" arrays by name.
        """
        tensors = {f"{INPUT}{name}": value for name, value in inputs.items() if name not in self._leave_out}
        self._gather(self._answers, columns, tensors | {f"{OUTPUT}{name}": value for name, value in outputs.items()})

    def add_labels(self, times: Sequence[datetime], ids: Sequence[str], labels: Sequence[int]) -> None:
        """Add labels by request id."""
        self._gather(self._labels, {"time": times, "id": ids, "label": labels}, {})

    def flush(self, *, everything: bool = False) -> None:
        """
        Write what is due: enough rows, or rows that have waited for ten seconds.

        Raises:
            OSError: The files cannot be written; the rows are given up and counted.
            Exception: Whatever the redaction raises; nothing of these rows is written.
        """
        for gathered, folder in ((self._answers, self._folder), (self._labels, labels_folder(self._folder))):
            if gathered.rows and (everything or self._is_due(gathered)):
                rows = gathered.rows
                taken, gathered.columns, gathered.tensors = (gathered.columns, gathered.tensors), {}, {}
                gathered.rows = gathered.nbytes = 0
                try:
                    self._write(*taken, folder, redact=gathered is self._answers)
                except BaseException:
                    self.failed += rows
                    raise
                self.rows += rows

    def _is_due(self, gathered: Gathered) -> bool:
        return gathered.rows >= FILE_ROWS or gathered.nbytes >= FILE_BYTES or time.monotonic() - gathered.since >= FILE_SECONDS

    def _gather(self, gathered: Gathered, columns: Mapping[str, Sequence[Any]], tensors: Mapping[str, Array]) -> None:
        if gathered.rows and set(tensors) != set(gathered.tensors):
            self.flush(everything=True)  # a version with other inputs: a file of its own
        if not gathered.rows:
            gathered.since = time.monotonic()
        for name, values in columns.items():
            gathered.columns.setdefault(name, []).extend(values)
        for name, value in tensors.items():
            gathered.tensors.setdefault(name, []).append(value)
            gathered.nbytes += value.nbytes
        gathered.rows += len(next(iter(columns.values())))

    def _write(self, columns: dict[str, list[Any]], tensors: dict[str, list[Array]], folder: Path, *, redact: bool) -> None:
        arrow = load_arrow()
        table: dict[str, Any] = {**columns, **{name: _join(parts) for name, parts in tensors.items()}}
        if redact and self._redact is not None:
            table = self._redact(table)
        arrays = {name: _to_arrow(arrow, name, value) for name, value in table.items()}
        folder.mkdir(parents=True, exist_ok=True)
        last = max(columns["time"], default=datetime.now(UTC))
        path = folder / file_name(last, next(self._numbers) % 10_000)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            arrow.parquet.write_table(arrow.table(arrays), fresh, compression="zstd")
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        self._remove_old()

    def _remove_old(self) -> None:
        least = datetime.now(UTC) - timedelta(seconds=self._max_seconds)
        total = 0
        files = sorted((*list_files(self._folder), *list_files(labels_folder(self._folder))), key=lambda path: path.name, reverse=True)
        recent = {path for folder in (self._folder, labels_folder(self._folder)) for path in list_files(folder, least)}
        for path in files:
            total += path.stat().st_size
            if total > self._max_bytes or path not in recent:
                path.unlink(missing_ok=True)


def _join(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if len({part.shape[1:] for part in parts}) == 1 else _stack(parts)


def _stack(parts: list[Array]) -> Array:
    rows = [row for part in parts for row in part]
    stacked = np.empty(len(rows), object)
    for index, row in enumerate(rows):
        stacked[index] = row.ravel()
    return stacked


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
