"""
Newly labelled rows of the prediction log, fit to be trained on.

Never one that the evaluation uses: rows are compared by content, so that no name or label of the traffic can bring one in.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from lastgood.monitoring.predictions.columns import labels_folder, read_settled
from lastgood.monitoring.predictions.read import read_labelled, read_rows
from lastgood.pipelines.data import Array, Data
from lastgood.pipelines.errors import DataError

# The row of a label that is on disk may still be in the observer's memory for so long; afterwards it never came.
SETTLES: Final = timedelta(minutes=5)
EVALUATION_TRAFFIC: Final = "evaluation"  # the label of requests that are the evaluation's own rows


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the newly labelled rows."""

    labelled: int  # all of them
    evaluation_traffic: int  # left out: they came as such
    evaluation_rows: int  # left out: the same numbers are in an evaluation or validation set
    unusable: int  # left out: without the input, of another shape, not finite, or of a class that no training row has
    over_limit: int  # left out: there were newer ones enough
    used: int
    until: str | None  # up to when labels were seen with their rows, ISO 8601 in UTC; None where there was no label


def take_rows(
    folder: Path, data: Data, *, input_name: str, since: datetime | None, max_rows: int, label_days: float
) -> tuple[Array, Array, Counts]:
    """
    Give the rows whose label came later than a moment, without those of the evaluation.

    A label's row may reach the disk after it. `Counts.until` lies before the first such label that was written in the last five
    minutes, so that the next call takes its row; rows that were labelled between the two are given again then.

    Args:
        folder: The model's log, from `lastgood.monitoring.predictions.columns.log_folder`.
        data: What ``load()`` gives: shapes, classes, and the rows that are not to be trained on.
        input_name: Of the tensor in the log.
        since: Labels up to this moment, UTC, were used already; None: none were.
        max_rows: The newest so many.
        label_days: How long before ``since`` a request may lie whose label is new.

    Returns:
        x "row feature…" float32, y "row" int64, and counts.

    Raises:
        DataError: The log does not have the input.
        LogMissingError: pyarrow is not installed.
        LogDamagedError: A file of the log cannot be read.
    """
    came = _newly_labelled(folder, since)
    ids = set(came)
    first = None if since is None else since - timedelta(days=label_days)
    logged = read_labelled(folder, since=first, inputs=(input_name,))
    lacking = len(logged.lacking & ids)
    until = _find_until(folder, came, logged.lacking.union(logged.ids.tolist()), since)
    new = np.isin(logged.ids.astype(str), list(ids)) if len(logged.ids) else np.zeros(0, np.bool_)
    shape = data.train[0].shape[1:]
    if not new.any() and not lacking:
        return np.zeros((0, *shape), np.float32), np.zeros(0, np.int64), Counts(0, 0, 0, 0, 0, 0, _write_time(until))
    if input_name not in logged.named:
        raise DataError(
            f"The prediction log has no input {input_name!r} (it has: {', '.join(sorted(logged.named)) or 'none'}), so nothing can be "
            "trained on it: models.NAME.predictions leaves it out or changes it."
        )
    x, usable = _shape_rows(logged.inputs[input_name], shape)
    y = logged.label
    usable &= np.isin(y, data.train[1])
    traffic = logged.traffic.astype(str) == EVALUATION_TRAFFIC
    known = {row for own in _held_out(data) for row in to_keys(own)}
    held_out = np.array([key in known for key in to_keys(x)])
    kept = np.flatnonzero(new & usable & ~traffic & ~held_out)
    kept = kept[np.argsort(logged.time[kept], kind="stable")]
    newest = kept[-max_rows:]
    counts = Counts(
        labelled=int(new.sum()) + lacking,
        evaluation_traffic=int((new & traffic).sum()),
        evaluation_rows=int((new & ~traffic & held_out).sum()),
        unusable=int((new & ~traffic & ~held_out & ~usable).sum()) + lacking,
        over_limit=len(kept) - len(newest),
        used=len(newest),
        until=_write_time(until),
    )
    return x[newest], y[newest], counts


def to_keys(x: Array) -> list[bytes]:
    """Give each row's bytes as float32; minus zero, which equals zero, has zero's."""
    return [row.tobytes() for row in np.ascontiguousarray(np.asarray(x, np.float32) + np.float32(0)).reshape(len(x), -1)]


def read_time(text: str | None) -> datetime | None:
    """Read what `Counts.until` holds."""
    return None if text is None else datetime.fromisoformat(text)


def _newly_labelled(folder: Path, since: datetime | None) -> dict[str, datetime]:
    """Give the requests whose first label came after a moment, and when it came."""
    told = read_rows(labels_folder(folder), columns=("time", "id"))
    first: dict[str, datetime] = {}
    for key, time in zip(told["id"].tolist(), np.asarray(told["time"], "datetime64[us]").tolist(), strict=True):
        moment = time.replace(tzinfo=UTC)
        if key not in first or moment < first[key]:
            first[key] = moment
    return {key: time for key, time in first.items() if since is None or time > since}


def _find_until(folder: Path, came: dict[str, datetime], seen: frozenset[str], since: datetime | None) -> datetime | None:
    """Give the newest label's time, or one before the first label whose row may still come."""
    settled = read_settled(labels_folder(folder), datetime.now(UTC) - SETTLES)
    awaited = [time for key, time in came.items() if key not in seen and (settled is None or time > settled)]
    if awaited:
        return min(awaited) - timedelta(microseconds=1)
    return max(came.values(), default=since)


def _shape_rows(values: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Give rows "row feature…" float32, zeros where a row cannot be one, and which can be."""
    size = int(np.prod(shape))
    x, usable = np.zeros((len(values), size), np.float32), np.zeros(len(values), np.bool_)
    if values.dtype.kind != "O" and values.ndim == 2:
        usable[:] = values.shape[1] == size
        if values.shape[1] == size:
            x[:] = values
    else:
        for index, row in enumerate(values):
            if np.size(row) == size:
                x[index], usable[index] = np.ravel(row), True
    usable &= np.isfinite(x).all(axis=1)
    x[~usable] = 0
    return x.reshape(-1, *shape), usable


def _held_out(data: Data) -> list[Array]:
    return [x for x, _ in data.evaluation.values()] + ([] if data.validation is None else [data.validation[0]])


def _write_time(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
