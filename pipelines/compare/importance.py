"""What each of two versions leans on: how much accuracy goes when a part of the input is another row's."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lastgood.pipelines.compare.parts import Part, list_parts
from lastgood.pipelines.data import Array
from lastgood.pipelines.evaluation import Evaluation, predict
from lastgood.pipelines.progress import report_part

REPEATS: Final = 5
_SEED: Final = 20
_ROWS_MAX: Final = 512
_ROWS_MIN: Final = 32


@dataclass(frozen=True, slots=True)
class Loss:
    """Accuracy lost, -1 to 1: the mean over the repeats, and their standard deviation."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class PartImportance:
    """What each version loses with one part of the input; ``apart`` is the second's mean loss less the first's."""

    name: str
    before: Loss
    after: Loss

    @property
    def apart(self) -> float:
        """Give by how much the second version leans on it more."""
        return self.after.mean - self.before.mean


@dataclass(frozen=True, slots=True)
class Importance:
    """What was measured, on how many rows, each part so many times; the part one of them leans on most first."""

    rows: int
    repeats: int
    seed: int
    parts: list[PartImportance]


def measure_importance(sessions: Sequence[Any], evaluation: Evaluation, *, name: str, seconds: float) -> Importance:
    """
    Put the values of other rows into one part of the input after the other, in both versions alike, and count what is lost.

    The same rows are given the same values in every run: both draws are seeded. Rows are taken evenly from all sets, 512
    at most; where answering is so slow that this would take longer than it may, half as many, and so on down to 32.

    Args:
        sessions: The first version and the second, from `lastgood.runtime.open_session`.
        evaluation: The sets.
        name: Of the input.
        seconds: How long all of it may take, about.

    Source: Breiman, "Random Forests", Machine Learning 45, 2001; Fisher, Rudin, Dominici, "All Models are Wrong, but Many
    are Useful", JMLR 20, 2019.
    """
    x = np.concatenate([own.x for own in evaluation.sets.values()])
    chosen = np.unique(np.linspace(0, len(x) - 1, _ROWS_MAX).astype(np.int64))
    parts = list_parts(name, x.shape[1:])
    start = time.perf_counter()
    for session in sessions:
        predict(session, x[chosen])
    once = time.perf_counter() - start
    while once * len(parts) * REPEATS > seconds and len(chosen) >= 2 * _ROWS_MIN:
        chosen, once = chosen[::2], once / 2
    x, y = x[chosen], evaluation.y[chosen]
    whole = [_score(session, x, y) for session in sessions]
    found = []
    for number, part in enumerate(parts):
        lost = _lose(sessions, x, y, part, number)
        found.append(PartImportance(part.name, *(_summarise(own - losses) for own, losses in zip(whole, lost, strict=True))))
        report_part((number + 1) / len(parts))
    found.sort(key=lambda own: -max(own.before.mean, own.after.mean))
    return Importance(len(y), REPEATS, _SEED, found)


def _lose(sessions: Sequence[Any], x: Array, y: Array, part: Part, number: int) -> Array:
    """Give the accuracy without a part, "version repeat"."""
    place = (slice(None), *part.place)
    scores = np.empty((len(sessions), REPEATS))
    for repeat in range(REPEATS):
        changed = x.copy()
        changed[place] = x[np.random.default_rng((_SEED, number, repeat)).permutation(len(x))][place]
        scores[:, repeat] = [_score(session, changed, y) for session in sessions]
    return scores


def _score(session: Any, x: Array, y: Array) -> float:
    return float((predict(session, x).argmax(axis=1) == y).mean())


def _summarise(losses: Array) -> Loss:
    return Loss(float(losses.mean()), float(losses.std(ddof=1)))
