"""Reading the prediction log: rows by time, and rows whose label is known."""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from lastgood.monitoring.predictions.columns import ANSWER_COLUMNS, INPUT, labels_folder, list_files
from lastgood.monitoring.predictions.errors import LogDamagedError, LogMissingError

Array = np.ndarray[Any, np.dtype[Any]]


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


def read_rows(
    folder: Path, *, since: datetime | None = None, until: datetime | None = None, columns: Sequence[str] | None = None
) -> dict[str, Array]:
    """
    Give the log's rows in a stretch of time.

    Args:
        folder: From `lastgood.monitoring.predictions.columns.log_folder`.
        since: First moment, UTC; default: all there is.
        until: Last moment, UTC, not included; default: now.
        columns: Names; default: all. A file without one of them gives none of its rows.

    Returns:
        "row" arrays by column; inputs and outputs "row element", or "row" of objects where rows differ in length.

    Raises:
        LogMissingError: pyarrow is not installed.
        LogDamagedError: A file cannot be read.
    """
    parts = [part for path in list_files(folder, since) if (part := _read_part(path, since, until, columns)) is not None]
    names = list(columns) if columns is not None else list(parts[-1]) if parts else list(ANSWER_COLUMNS)
    parts = [part for part in parts if set(names) <= set(part)]
    return {name: _join([part[name] for part in parts]) for name in names}


def read_labelled(folder: Path, *, since: datetime | None = None, until: datetime | None = None) -> Labelled:
    """
    Give the rows that were labelled, each once, with the first label that came; answers that were never returned are left out.

    Args:
        folder: From `lastgood.monitoring.predictions.columns.log_folder`.
        since: First moment of the requests, UTC.
        until: Last moment, not included.

    Raises:
        LogMissingError: pyarrow is not installed.
        LogDamagedError: A file cannot be read.
    """
    told = read_rows(labels_folder(folder), since=since, columns=("id", "label"))
    labels: dict[str, int] = {}
    for key, label in zip(told["id"].tolist(), told["label"].tolist(), strict=True):
        labels.setdefault(key, label)
    rows = read_rows(folder, since=since, until=until)
    known: dict[str, int] = {}
    for index, (key, role) in enumerate(zip(rows["id"].tolist(), rows["role"].tolist(), strict=True)):
        if key in labels and role != "shadow":
            known.setdefault(key, index)
    kept = np.fromiter(known.values(), np.int64, len(known))
    answer = rows["answer"][kept]
    return Labelled(
        ids=rows["id"][kept],
        time=rows["time"][kept],
        version=rows["version"][kept],
        role=rows["role"][kept],
        traffic=rows["traffic"][kept],
        answer=np.asarray(np.where(np.isnan(answer), -1, answer), np.int64) if answer.dtype.kind == "f" else answer,
        label=np.fromiter((labels[key] for key in known), np.int64, len(known)),
        inputs={name.removeprefix(INPUT): values[kept] for name, values in rows.items() if name.startswith(INPUT)},
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
        table = _read_table(path, columns)
        if table is None:
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


def _read_part(path: Path, since: datetime | None, until: datetime | None, columns: Sequence[str] | None) -> dict[str, Array] | None:
    arrow = load_arrow()
    names = None if columns is None else list(dict.fromkeys(("time", *columns)))
    table = _read_table(path, names)
    if table is None:
        return None
    for moment, keeps in ((since, arrow.compute.greater_equal), (until, arrow.compute.less)):
        if moment is not None:
            table = table.filter(keeps(table["time"], arrow.scalar(moment, table["time"].type)))
    return {name: _to_numpy(table[name]) for name in table.column_names}


def _read_table(path: Path, columns: list[str] | None) -> Any:
    arrow = load_arrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            if columns is not None and not set(columns) <= set(file.schema_arrow.names):
                return None
            return file.read(columns)
    except FileNotFoundError:  # its time was over meanwhile
        return None
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
