"""The evaluation sets of a run, kept in its folder, and what a file answers on them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from lastgood.errors import IntegrityError
from lastgood.pipelines.calling import calling
from lastgood.pipelines.data import Array, Data
from lastgood.pipelines.errors import DataError, IncomparableError, StepOrderError
from lastgood.pipelines.find import Found
from lastgood.tensors import TensorSpec

_BATCH = 256
_NAMES = "names.json"
_ARRAYS = "rows.npz"


@dataclass(frozen=True)
class EvaluationSet:
    """Rows "row feature…" float32, labels and originals "row" int64, slices "row" bool by name, unix seconds "row" where known."""

    x: Array
    y: Array
    groups: Array
    slices: Mapping[str, Array]
    times: Array | None = None


@dataclass(frozen=True)
class Evaluation:
    """All evaluation sets of a run by name; pooled means joined in this order."""

    sets: Mapping[str, EvaluationSet]

    @cached_property
    def y(self) -> Array:
        """Labels of all rows."""
        return np.concatenate([own.y for own in self.sets.values()])

    @cached_property
    def groups(self) -> Array:
        """The original of every row."""
        return np.concatenate([own.groups for own in self.sets.values()])

    @cached_property
    def slices(self) -> dict[str, Array]:
        """Slices over all rows; a set that lacks one has no rows in it."""
        names = dict.fromkeys(name for own in self.sets.values() for name in own.slices)
        return {
            name: np.concatenate([own.slices.get(name, np.zeros(len(own.y), np.bool_)) for own in self.sets.values()]) for name in names
        }

    @property
    def row(self) -> Array:
        """One row to time with, "1 feature…"."""
        return next(iter(self.sets.values())).x[:1]


def slice_evaluation(found: Found, data: Data) -> Evaluation:
    """
    Give the evaluation sets of loaded data with the pipeline's slices.

    Raises:
        DataError: A slice is not one true or false per row.
        PipelineError: ``slices()`` failed.
    """
    sets = {}
    for name, (x, y) in data.evaluation.items():
        with calling(found.file, "slices()"):
            slices = {str(label): np.asarray(mask) for label, mask in found.pipeline.slices(x, y).items()}
        for label, mask in slices.items():
            if mask.dtype != np.bool_ or mask.shape != y.shape:
                raise DataError(
                    f"slices() gave {label!r} as {mask.dtype} of shape {mask.shape} for set {name!r}; expected {y.shape} of true or false."
                )
        sets[name] = EvaluationSet(x, y, data.groups[name], slices, data.times.get(name))
    return Evaluation(sets)


def save_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write the sets, without pickle, as names.json and rows.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    names = []
    for index, (name, own) in enumerate(evaluation.sets.items()):
        names.append({"set": name, "slices": list(own.slices)})
        arrays |= {f"x{index}": own.x, f"y{index}": own.y, f"groups{index}": own.groups}
        arrays |= {f"slice{index}_{position}": mask for position, mask in enumerate(own.slices.values())}
        arrays |= {} if own.times is None else {f"times{index}": own.times}
    np.savez(folder / _ARRAYS, **arrays)
    (folder / _NAMES).write_text(json.dumps(names, indent=1), "utf-8")


def load_evaluation(folder: Path) -> Evaluation:
    """
    Read what `save_evaluation` wrote.

    Raises:
        StepOrderError: There is nothing.
        IntegrityError: It is something else.
    """
    if not (folder / _NAMES).is_file():
        raise StepOrderError(f"{folder} holds no evaluation sets: train first.")
    try:
        return _read(folder)
    except (ValueError, KeyError, TypeError, OSError, BadZipFile) as exc:
        raise IntegrityError(f"{folder} does not hold what training writes: {exc}. Train again.") from exc


def _read(folder: Path) -> Evaluation:
    names = json.loads((folder / _NAMES).read_text("utf-8"))
    with np.load(folder / _ARRAYS, allow_pickle=False) as saved:
        return Evaluation(
            {
                entry["set"]: EvaluationSet(
                    saved[f"x{index}"],
                    saved[f"y{index}"],
                    saved[f"groups{index}"],
                    {name: saved[f"slice{index}_{position}"] for position, name in enumerate(entry["slices"])},
                    saved.get(f"times{index}"),
                )
                for index, entry in enumerate(names)
            }
        )


def predict(session: Any, x: Array) -> Array:
    """
    Give a loaded file's first output for rows, "row class", in batches.

    Args:
        session: From `lastgood.runtime.open_session`; one input, first output "batch class".
        x: "row feature…" float32, one row or more.
    """
    (taken,) = session.get_inputs()
    return np.concatenate([session.run(None, {taken.name: x[start : start + _BATCH]})[0] for start in range(0, len(x), _BATCH)])


def answer(session: Any, evaluation: Evaluation) -> Array:
    """Give a loaded file's label for every row of all sets, "row" int64; the session as `predict` takes it."""
    return np.concatenate([predict(session, own.x).argmax(axis=1) for own in evaluation.sets.values()])


def check_same_inputs(inputs: Sequence[TensorSpec], others: Sequence[TensorSpec]) -> None:
    """
    Compare what a version takes with what a newer one takes, the batch's size aside.

    Raises:
        IncomparableError: They cannot be given the same rows.
    """
    if [(spec.datatype, spec.shape[1:]) for spec in inputs] != [(spec.datatype, spec.shape[1:]) for spec in others]:
        raise IncomparableError(f"it takes {[spec.to_json() for spec in inputs]}, the new one {[spec.to_json() for spec in others]}")


def split_by_set(evaluation: Evaluation, values: Array) -> dict[str, Array]:
    """Give the part of pooled "row" values that belongs to each set."""
    ends = np.cumsum([len(own.y) for own in evaluation.sets.values()])
    return dict(zip(evaluation.sets, np.split(values, ends[:-1]), strict=True))
