"""Reading the prediction log: rows by time, and rows whose label is known."""

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from lastgood.monitoring.predictions.columns import ANSWER_COLUMNS, INPUT, labels_folder, list_files
from lastgood.monitoring.predictions.errors import LogDamagedError, LogMissingError

Array = np.ndarray[Any, np.dtype[Any]]
_JOINED: Final = frozenset({"id", "time", "version", "role", "traffic", "answer"})  # what a row needs for a label to be its own


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows whose label is known: "row" arrays of one length; inputs "row element…" by name, flattened."""

    ids: Array
    time: Array  # datetime64[us], UTC
    version: Array
    role: Array
    traffic: Array
    answer: Array  # int64, -1 where the answer is no label
    label: Array  # int64
    inputs: dict[str, Array]
    lacking: frozenset[str]  # ids of labelled rows that are not here, for their files lack an input that was asked for
    named: frozenset[str]  # every input that a file has


class LeftOut(NamedTuple):
    """Rows that were not given, for their file lacks a column that was asked for."""

    path: Path
    rows: int
    lacks: tuple[str, ...]


class _Part(NamedTuple):
    path: Path
    rows: int
    columns: dict[str, Array]  # those that were picked
    names: frozenset[str]  # of all columns of the file


def read_rows(
    folder: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Sequence[str] | None = None,
    version: int | None = None,
    on_left_out: Callable[[LeftOut], None] | None = None,
) -> dict[str, Array]:
    """
    Give the log's rows in a stretch of time.

    Args:
        folder: From `lastgood.monitoring.predictions.columns.log_folder`.
        since: First moment, UTC; default: all there is.
        until: Last moment, UTC, not included; default: now.
        columns: Names; default: all that any file has. A file without one of those named gives none of its rows.
        version: Only what this version answered.
        on_left_out: Is told of each file with such rows that lacks a column.

    Returns:
        "row" arrays by column; inputs and outputs "row element", or "row" of objects where rows differ in length. Where all columns
        are asked for, None in the rows of a file that has no such column.

    Raises:
        LogMissingError: pyarrow is not installed.
        LogDamagedError: A file cannot be read.
    """
    parts = []
    for part in _read_parts(folder, since, until, version, lambda name: columns is None or name in columns):
        if lacks := tuple(name for name in columns or () if name not in part.names):
            if part.rows and on_left_out is not None:
                on_left_out(LeftOut(part.path, part.rows, lacks))
        else:
            parts.append(part)
    names = columns if columns is not None else dict.fromkeys(name for part in parts for name in part.columns) or ANSWER_COLUMNS
    return _join_columns(parts, names)


def read_labelled(
    folder: Path, *, since: datetime | None = None, until: datetime | None = None, inputs: Sequence[str] | None = None
) -> Labelled:
    """
    Give the rows that were labelled, each once, with the first label that came; answers that were never returned are left out.

    Args:
        folder: From `lastgood.monitoring.predictions.columns.log_folder`.
        since: First moment of the requests, UTC.
        until: Last moment, not included.
        inputs: Names of the inputs that are needed; rows without one of them are told apart. Default: all that any file has, with None
            where it has not.

    Raises:
        LogMissingError: pyarrow is not installed.
        LogDamagedError: A file cannot be read.
    """
    told = read_rows(labels_folder(folder), since=since, columns=("id", "label"))
    labels: dict[str, int] = {}
    for key, label in zip(told["id"].tolist(), told["label"].tolist(), strict=True):
        labels.setdefault(key, label)
    asked = None if inputs is None else frozenset(f"{INPUT}{name}" for name in inputs)
    parts, lacking, named = [], set[str](), set[str]()
    for part in _read_parts(
        folder, since, until, None, lambda name: name in _JOINED or (name.startswith(INPUT) if asked is None else name in asked)
    ):
        if not part.names >= _JOINED:
            continue
        named |= {name for name in part.names if name.startswith(INPUT)}
        if asked is None or part.names >= asked:
            parts.append(part)
        else:
            keys = zip(part.columns["id"].tolist(), part.columns["role"].tolist(), strict=True)
            lacking |= {key for key, role in keys if key in labels and role != "shadow"}
    rows = _join_columns(parts, _JOINED | (named if asked is None else asked))
    known: dict[str, int] = {}
    for index, (key, role) in enumerate(zip(rows["id"].tolist(), rows["role"].tolist(), strict=True)):
        if key in labels and role != "shadow":
            known.setdefault(key, index)
    kept = np.fromiter(known.values(), np.int64, len(known))
    return Labelled(
        ids=rows["id"][kept],
        time=rows["time"][kept],
        version=rows["version"][kept],
        role=rows["role"][kept],
        traffic=rows["traffic"][kept],
        # Where one is no label they are floating-point numbers, and objects where files differ in that.
        answer=np.array([-1 if one is None or one != one else one for one in rows["answer"][kept].tolist()], np.int64),  # noqa: PLR0124 - NaN
        label=np.fromiter((labels[key] for key in known), np.int64, len(known)),
        inputs={name.removeprefix(INPUT): values[kept] for name, values in rows.items() if name.startswith(INPUT)},
        lacking=frozenset(lacking.difference(known)),
        named=frozenset(name.removeprefix(INPUT) for name in named),
    )


def find_answers(folder: Path, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """
    Look for requests that were answered long ago.

    Args:
        folder: Of the model's log.
        ids: Of the requests.

    Yields:
        ``id``, ``version``, ``role``, ``slice`` and ``answer`` of each one found; shadows' answers are left out.
    """
    arrow = load_arrow()
    wanted = arrow.array(list(ids))
    columns = ["id", "version", "role", "slice", "answer"]
    for path in reversed(list_files(folder)):
        table = _read_table(path, columns.__contains__)[0]
        if table is None or table.num_columns < len(columns):
            continue
        found = table.filter(arrow.compute.is_in(table["id"], value_set=wanted))
        yield from (row for row in found.to_pylist() if row["role"] != "shadow")


def load_arrow() -> Any:
    """
    Import pyarrow, which not every installation has.

    Raises:
        LogMissingError: It is not installed.
    """
    try:
        for name in ("pyarrow.compute", "pyarrow.parquet"):
            importlib.import_module(name)
        return importlib.import_module("pyarrow")
    except ImportError as exc:
        raise LogMissingError("The prediction log needs pyarrow: pip install 'lastgood[log]'.") from exc


def _read_parts(
    folder: Path, since: datetime | None, until: datetime | None, version: int | None, picks: Callable[[str], bool]
) -> Iterator[_Part]:
    """Give each file's rows of a stretch of time, with those of the picked columns that it has."""
    arrow = load_arrow()
    compute = arrow.compute
    filters = [
        (name, keeps, value)
        for name, keeps, value in (
            ("time", compute.greater_equal, since),
            ("time", compute.less, until),
            ("version", compute.equal, version),
        )
        if value is not None
    ]
    needed = {name for name, _, _ in filters}
    for path in list_files(folder, since):
        table, names = _read_table(path, lambda name: name in needed or picks(name))
        if table is None:
            continue
        for name, keeps, value in filters:
            if name in names:
                table = table.filter(keeps(table[name], arrow.scalar(value, table[name].type)))
        picked = {name: _to_numpy(table[name]) for name in table.column_names if picks(name)}
        yield _Part(path, table.num_rows, picked, names)


def _read_table(path: Path, picks: Callable[[str], bool]) -> tuple[Any, frozenset[str]]:
    """Give a file's picked columns, None if it is gone, and the names of all that it has."""
    arrow = load_arrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            return file.read([name for name in names if picks(name)]), frozenset(names)
    except FileNotFoundError:  # its time was over meanwhile
        return None, frozenset()
    except (arrow.ArrowException, OSError) as exc:
        raise LogDamagedError(f"{path} of the prediction log cannot be read: {exc}. Remove it to go on without.") from exc


def _to_numpy(column: Any) -> Array:
    arrow = load_arrow()
    kind = column.type
    if arrow.types.is_fixed_size_list(kind):
        flat = column.combine_chunks()
        values = flat.flatten() if not isinstance(flat, arrow.ChunkedArray) else arrow.concat_arrays([c.flatten() for c in flat.chunks])
        return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), kind.list_size)
    values = np.asarray(column.to_numpy())
    if arrow.types.is_list(kind) and len(values) and len({len(row) for row in values}) == 1:
        return np.stack(list(values))
    return values


def _join_columns(parts: Sequence[_Part], names: Iterable[str]) -> dict[str, Array]:
    """Give whole columns, with None in the rows of a file that has no such column."""
    return {name: _join([part.columns[name] if name in part.columns else np.full(part.rows, None) for part in parts]) for name in names}


def _join(parts: list[Array]) -> Array:
    parts = [part for part in parts if len(part)] or parts[:1]
    if not parts:
        return np.empty(0, object)
    if len({(part.shape[1:], part.dtype.kind) for part in parts}) == 1:
        return np.concatenate(parts)
    rows = [row for part in parts for row in part]
    joined = np.empty(len(rows), object)
    for index, row in enumerate(rows):
        joined[index] = row
    return joined
