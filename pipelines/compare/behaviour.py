"""Both versions on every evaluation set of the model's pipeline."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from lastgood.pipelines.compare.flips import Flip, Flips, count_flips, count_matrix, count_parts, list_flips
from lastgood.pipelines.compare.importance import Importance, measure_importance
from lastgood.pipelines.data import Array
from lastgood.pipelines.errors import IncomparableError
from lastgood.pipelines.evaluation import Evaluation, check_same_inputs, predict, slice_evaluation, split_by_set
from lastgood.pipelines.find import find_pipeline
from lastgood.pipelines.progress import OnProgress, Progress, ignore_progress, reporting
from lastgood.pipelines.train import call_load
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.runtime import open_session, read_signature
from lastgood.settings import Settings
from lastgood.tensors import TensorSpec

STEP = "compare"
_SECONDS: Final = 20.0  # for what each version leans on


@dataclass(frozen=True, slots=True)
class Difference:
    """
    How far the first outputs lie apart.

    Attributes:
        mean: Mean absolute difference over rows and classes where both gave a finite number; None where there is none, or
            the outputs have not as many classes.
        largest: The largest of them.
        not_finite_before: Rows with NaN or an infinity in the first version's output; they count as not answered.
        not_finite_after: The same of the second's.
    """

    mean: float | None
    largest: float | None
    not_finite_before: int
    not_finite_after: int


@dataclass(frozen=True, slots=True)
class Behaviour:
    """
    What two versions do on the same rows.

    Attributes:
        rows_of: The model whose pipeline gave them.
        classes: Names of the answers in their order; "none" is the last one where a row was not answered.
        overall: All rows.
        sets: By evaluation set.
        slices: By slice, over all sets.
        matrix: Rows that went from each class to each other one.
        differences: Of the outputs, by evaluation set and ``all``.
        importance: What each version leans on.
        flipped: Every row with another answer.
    """

    rows_of: str
    classes: list[str]
    overall: Flips
    sets: list[Flips]
    slices: list[Flips]
    matrix: list[list[int]]
    differences: Mapping[str, Difference]
    importance: Importance
    flipped: list[Flip]


def compare_behaviour(
    settings: Settings, registry: Registry, before: Version, after: Version, on_progress: OnProgress = ignore_progress
) -> tuple[Behaviour, Evaluation]:
    """
    Run two versions on every evaluation set of the second one's pipeline, as they are served.

    Returns:
        What came of it, and the rows.

    Raises:
        PipelineNotFoundError: The model has no pipeline.
        PipelineError: The user's code failed, with its line.
        IncomparableError: The versions do not take the same inputs, or not what the pipeline gives.
        IntegrityError: The stored files are not what was registered.
    """
    on_progress(Progress(STEP, "loading data", 0.0))
    with tempfile.TemporaryDirectory(prefix="lastgood-compare-") as name:
        sessions = [_open(registry, own, Path(name)) for own in (before, after)]
        signatures = [read_signature(session) for session in sessions]
        try:
            check_same_inputs(signatures[0][0], signatures[1][0])
        except IncomparableError as exc:
            raise IncomparableError(f"{before} and {after} cannot be given the same rows: {exc}. Leave --behaviour out.") from exc
        found = find_pipeline(settings, after.model)
        evaluation = slice_evaluation(found, call_load(found, registry.record(after.digest, model=after.model).seed or 0))
        for version, (inputs, outputs) in zip((before, after), signatures, strict=True):
            _check_signature(version, inputs, outputs, evaluation, after.model)
        on_progress(Progress(STEP, "answering the evaluation rows", 0.2))
        scores = [np.concatenate([predict(session, own.x) for own in evaluation.sets.values()]) for session in sessions]
        with reporting(on_progress, STEP, "measuring what each version leans on", 0.4, 1.0):
            importance = measure_importance(sessions, evaluation, name=signatures[1][0][0].name, seconds=_SECONDS)
    return _compare(after.model, evaluation, scores, importance), evaluation


def _compare(model: str, evaluation: Evaluation, scores: list[Array], importance: Importance) -> Behaviour:
    count = max(int(evaluation.y.max()) + 1, *(own.shape[1] for own in scores))
    unanswered = [~np.isfinite(own).all(axis=1) for own in scores]
    before, after = (np.where(lost, count, own.argmax(axis=1)) for own, lost in zip(scores, unanswered, strict=True))
    classes = [*map(str, range(count)), *(["none"] if any(lost.any() for lost in unanswered) else [])]
    sets, slices = count_parts(evaluation, before, after)
    rows = {"all": np.arange(len(evaluation.y)), **split_by_set(evaluation, np.arange(len(evaluation.y)))}
    return Behaviour(
        rows_of=model,
        classes=classes,
        overall=count_flips("all", evaluation.y, before, after, evaluation.groups),
        sets=sets,
        slices=slices,
        matrix=count_matrix(before, after, len(classes)),
        differences={name: _measure_difference(scores[0][own], scores[1][own]) for name, own in rows.items()},
        importance=importance,
        flipped=list(list_flips(evaluation, before, after)),
    )


def _measure_difference(before: Array, after: Array) -> Difference:
    unanswered = [int((~np.isfinite(own).all(axis=1)).sum()) for own in (before, after)]
    if before.shape != after.shape:
        return Difference(None, None, *unanswered)
    both = np.isfinite(before) & np.isfinite(after)
    apart = np.abs(after[both].astype(np.float64) - before[both].astype(np.float64))
    return Difference(float(apart.mean()), float(apart.max()), *unanswered) if len(apart) else Difference(None, None, *unanswered)


def _open(registry: Registry, version: Version, folder: Path) -> Any:
    content = registry.content(version.digest)
    return open_session(registry.materialize(version.digest, folder / version.digest.removeprefix("sha256:")) / content.model)


def _check_signature(
    version: Version, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], evaluation: Evaluation, model: str
) -> None:
    row = evaluation.row.shape[1:]
    taken = inputs[0] if len(inputs) == 1 else None
    fits = taken is not None and taken.datatype == "FP32" and len(taken.shape) == len(row) + 1
    if taken is None or not fits or any(own not in {-1, given} for own, given in zip(taken.shape[1:], row, strict=True)):
        raise IncomparableError(
            f"{version} takes {[spec.to_json() for spec in inputs]}; the pipeline of {model} gives rows of FP32 {list(row)}. "
            "Leave --behaviour out."
        )
    if taken.shape[0] != -1 or len(outputs[0].shape) != 2:
        raise IncomparableError(
            f"{version} takes {list(taken.shape)} and gives {outputs[0].name!r} of shape {list(outputs[0].shape)}; expected any number of "
            "rows, and a score for each class as the first output. Leave --behaviour out."
        )
