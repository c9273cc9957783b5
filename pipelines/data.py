"""What a pipeline loads: rows to train on, and named sets of rows to be tested on."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lastgood.pipelines.errors import DataError

Array = np.ndarray[Any, Any]
Labelled = tuple[Array, Array]

VALIDATION_PART = 0.2  # of the training rows, where a pipeline searches and names no validation set


@dataclass(frozen=True)
class Data:
    """
    Rows and labels, checked and converted when they are given.

    Attributes:
        train: ``(x, y)``: x "row feature…" float32, finite; y "row" int64, labels from 0.
        evaluation: The same by name of the set; never trained on. Each holds one row or more.
        validation: To choose between searched parameters; default: a part of the training rows.
        groups: By evaluation set: "row" int64, the original each row was made from, where one original was
            made into several rows; rows of one original count less than independent ones.
        times: By evaluation set: "row" float64 unix seconds, when each row came in. With a day or more of them the drift
            reference knows the daily rhythm from the start; without, it is learnt in production.

    Raises:
        DataError: A shape, type or value that cannot be trained or tested on.
    """

    train: Labelled
    evaluation: Mapping[str, Labelled]
    validation: Labelled | None = None
    groups: Mapping[str, Array] = field(default_factory=dict)
    times: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check and convert every array."""
        train = _check("train", self.train)
        if not isinstance(self.evaluation, Mapping) or not self.evaluation:
            raise DataError(f'Data.evaluation is {type(self.evaluation).__name__} without a set; expected {{"name": (x, y)}}, one or more.')
        evaluation = {str(name): _check(f"evaluation[{name!r}]", pair, train[0].shape[1:]) for name, pair in self.evaluation.items()}
        validation = None if self.validation is None else _check("validation", self.validation, train[0].shape[1:])
        groups = {name: np.arange(len(pair[1])) for name, pair in evaluation.items()}
        if not self.groups:
            # Without groups every row of every set is its own original.
            start = 0
            for name, own in groups.items():
                groups[name] = own + start
                start += len(own)
        for name, group in self.groups.items():
            if name not in evaluation or np.shape(group) != evaluation[name][1].shape:
                raise DataError(
                    f"Data.groups[{name!r}] has shape {np.shape(group)}; expected one number per row of a set ({', '.join(evaluation)})."
                )
            groups[name] = np.asarray(group, np.int64)
        times = {str(name): _check_times(str(name), own, evaluation) for name, own in self.times.items()}
        object.__setattr__(self, "train", train)
        object.__setattr__(self, "evaluation", evaluation)
        object.__setattr__(self, "validation", validation)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "times", times)

    def fingerprint(self) -> str:
        """Give ``sha256:`` and the SHA-256 over every array with its name, type and shape."""
        digest = hashlib.sha256()
        for name, array in self._arrays():
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return f"sha256:{digest.hexdigest()}"

    def warnings(self) -> list[str]:
        """Say what is allowed but makes a gate weak, a sentence each."""
        found = []
        if len(self.evaluation) < 2:
            only = next(iter(self.evaluation))
            found.append(f"There is one evaluation set ({only}): a second one, noisy or from elsewhere, shows what the first cannot.")
        unseen = sorted(
            {int(label) for _, y in self.evaluation.values() for label in np.unique(y)} - set(map(int, np.unique(self.train[1])))
        )
        if unseen:
            found.append(f"The evaluation sets have labels {unseen} that the training rows do not have.")
        return found

    def hold_out_validation(self) -> "Data":
        """Give data with a validation set, taken from the training rows where there is none."""
        if self.validation is not None:
            return self
        x, y = self.train
        order = np.random.default_rng(0).permutation(len(y))  # the split is part of the data, whatever the run's seed
        count = max(1, round(len(y) * VALIDATION_PART))
        return Data((x[order[count:]], y[order[count:]]), self.evaluation, (x[order[:count]], y[order[:count]]), self.groups, self.times)

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        pairs = {"train": self.train, **{f"evaluation {name}": pair for name, pair in self.evaluation.items()}}
        if self.validation is not None:
            pairs["validation"] = self.validation
        for name, (x, y) in pairs.items():
            yield f"{name} x", x
            yield f"{name} y", y
        for name, group in self.groups.items():
            yield f"groups {name}", group
        for name, own in self.times.items():
            yield f"times {name}", own


def _check(name: str, pair: Any, row_shape: tuple[int, ...] | None = None) -> Labelled:
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise DataError(f"Data.{name} is {type(pair).__name__}; expected a tuple (x, y).")
    try:
        x, y = np.asarray(pair[0], np.float32), np.asarray(pair[1])
    except (ValueError, TypeError) as exc:
        raise DataError(f"Data.{name} has an x that is no array of numbers: {exc}.") from exc
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise DataError(f"Data.{name} has x of shape {x.shape} and y of shape {y.shape}; expected (rows, features…) and (rows,).")
    if not len(y):
        raise DataError(f"Data.{name} has no rows; expected one or more.")
    if row_shape is not None and x.shape[1:] != row_shape:
        raise DataError(f"Data.{name} has rows of shape {x.shape[1:]}; expected {row_shape}, as the training rows have.")
    if not np.isfinite(x).all():
        bad = int(np.argwhere(~np.isfinite(x))[0][0])
        raise DataError(
            f"Data.{name} has x with {int((~np.isfinite(x)).sum())} values that are not finite, first in row {bad}: fill or drop them."
        )
    labels = y.astype(np.int64) if y.dtype.kind in "iub" or (y.dtype.kind == "f" and np.array_equal(y, np.round(y))) else None
    if labels is None or labels.min() < 0:
        raise DataError(f"Data.{name} has y of {y.dtype}, {np.unique(y)[:3].tolist()}…; expected whole numbers from 0, one per class.")
    return x, labels


def _check_times(name: str, times: Any, evaluation: Mapping[str, Labelled]) -> Array:
    if name not in evaluation or np.shape(times) != evaluation[name][1].shape:
        raise DataError(
            f"Data.times[{name!r}] has shape {np.shape(times)}; expected one number per row of a set ({', '.join(evaluation)})."
        )
    try:
        seconds = np.asarray(times, np.float64)
    except (ValueError, TypeError) as exc:
        raise DataError(f"Data.times[{name!r}] is {np.asarray(times).dtype}; expected unix seconds: {exc}.") from exc
    if not np.isfinite(seconds).all():
        raise DataError(f"Data.times[{name!r}] has {int((~np.isfinite(seconds)).sum())} values that are not finite; expected unix seconds.")
    return seconds
