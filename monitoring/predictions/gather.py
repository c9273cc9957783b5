"""Rows that wait to be written: by their columns, for a file has one set of them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
SETS: Final = 4  # of columns; versions that take turns have one each
_ROW_BYTES: Final = 40  # of a row without its texts and tensors


@dataclass(slots=True)
class Gathered:
    """Rows with the same columns: plain lists of values, and arrays "row …" by the name of an input or output."""

    columns: dict[str, list[Any]] = field(default_factory=dict)
    tensors: dict[str, list[Array]] = field(default_factory=dict)
    rows: int = 0
    nbytes: int = 0
    since: float = field(default_factory=time.monotonic)

    def add(self, columns: Mapping[str, Sequence[Any]], tensors: Mapping[str, Array]) -> None:
        """Take rows behind the others."""
        rows = len(columns["id"])
        for name, values in columns.items():
            self.columns.setdefault(name, []).extend(values)
        for name, value in tensors.items():
            self.tensors.setdefault(name, []).append(value)
            self.nbytes += value.nbytes
        self.rows += rows
        self.nbytes += rows * _ROW_BYTES + sum(map(len, columns["id"]))

    def split(self, nbytes: int) -> Iterator[dict[str, Any]]:
        """Give tables of so many bytes at most, as far as rows are of one size; of one row at least."""
        table: dict[str, Any] = {**self.columns, **{name: _join(parts) for name, parts in self.tensors.items()}}
        size = max(1, self.rows * nbytes // max(self.nbytes, 1))
        for start in range(0, self.rows, size):
            yield {name: values[start : start + size] for name, values in table.items()}


class Buffers:
    """Rows by their set of columns; the sets are few, and what they hold is counted together."""

    def __init__(self) -> None:
        """Begin empty."""
        self._sets: dict[frozenset[tuple[str, str]], Gathered] = {}

    def __iter__(self) -> Iterator[Gathered]:
        """Give each set's rows."""
        return iter(self._sets.values())

    def add(self, columns: Mapping[str, Sequence[Any]], tensors: Mapping[str, Array]) -> Gathered | None:
        """Take rows; give those of the oldest set where they gave way to a new one."""
        key = frozenset((name, value.dtype.str) for name, value in tensors.items())
        pushed = None
        if key not in self._sets and len(self._sets) >= SETS:
            pushed = self._sets.pop(next(iter(self._sets)))
        self._sets.setdefault(key, Gathered()).add(columns, tensors)
        return pushed

    def take(self) -> list[Gathered]:
        """Give all rows, and hold none."""
        taken, self._sets = list(self._sets.values()), {}
        return taken


def _join(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if len({part.shape[1:] for part in parts}) == 1 else _stack(parts)


def _stack(parts: list[Array]) -> Array:
    rows = [row for part in parts for row in part]
    stacked = np.empty(len(rows), object)
    for index, row in enumerate(rows):
        stacked[index] = row.ravel()
    return stacked
