"""Rows that two versions answer otherwise, and whether chance alone would make as many."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from lastgood.monitoring.drift.statistics import correct
from lastgood.pipelines.data import Array
from lastgood.pipelines.evaluation import Evaluation

Kind = Literal["lost", "won", "switched"]
KINDS: Final[Mapping[Kind, str]] = {"lost": "right, then wrong", "won": "wrong, then right", "switched": "wrong, then wrong otherwise"}


@dataclass(frozen=True, slots=True)
class Flip:
    """One row that the two answered otherwise: its set, its place there from 0, its label, both answers, and which of `KINDS` it is."""

    set: str
    row: int
    expected: int
    before: int
    after: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Flips:
    """
    How two versions did on some rows.

    Attributes:
        name: Of the set or slice.
        rows: How many both answered.
        right_before: How many the first had right.
        right_after: How many the second had right.
        lost: Rows that only the first had right.
        won: Rows that only the second had right.
        switched: Rows that both had wrong, each in its own way.
        originals: Originals of which the rows were lost more often than won, or the other way round: what the test is about.
        p_value: Of the test, 0 to 1; 1 where nothing was lost or won.
        adjusted_p: The same for all sets and slices together, by Holm.
    """

    name: str
    rows: int
    right_before: int
    right_after: int
    lost: int
    won: int
    switched: int
    originals: int
    p_value: float
    adjusted_p: float


def count_flips(name: str, expected: Array, before: Array, after: Array, groups: Array) -> Flips:
    """
    Count where two versions differ, and test whether one is right more often.

    The test is McNemar's, exact and on both sides. Rows made of one original count as one, lost or won by their majority:
    an original's copies are no independent witnesses. Where every row is its own original it is the test as it is known.

    Args:
        name: Of the rows.
        expected: "row" int64, the labels.
        before: "row" int64, the first version's answers.
        after: "row" int64, the second's.
        groups: "row" int64, the original each row was made from.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947.
    """
    from scipy.stats import binomtest

    right = before == expected, after == expected
    change = right[1].astype(np.int64) - right[0].astype(np.int64)
    _, original = np.unique(groups, return_inverse=True)
    net = np.bincount(original, weights=change)
    better, worse = int((net > 0).sum()), int((net < 0).sum())
    p_value = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
    return Flips(
        name=name,
        rows=len(expected),
        right_before=int(right[0].sum()),
        right_after=int(right[1].sum()),
        lost=int((change < 0).sum()),
        won=int((change > 0).sum()),
        switched=int(((before != after) & ~right[0] & ~right[1]).sum()),
        originals=better + worse,
        p_value=p_value,
        adjusted_p=p_value,
    )


def count_parts(evaluation: Evaluation, before: Array, after: Array) -> tuple[list[Flips], list[Flips]]:
    """Count by set and by slice, a slice over all sets; their p-values are corrected together."""
    starts = np.cumsum([0, *(len(own.y) for own in evaluation.sets.values())])
    rows = {name: np.arange(*span) for name, *span in zip(evaluation.sets, starts[:-1], starts[1:], strict=True)}
    slices = {name: np.flatnonzero(mask) for name, mask in evaluation.slices.items() if mask.any()}
    found = [
        count_flips(name, *(own[chosen] for own in (evaluation.y, before, after, evaluation.groups)))
        for name, chosen in (*rows.items(), *slices.items())
    ]
    corrected = [replace(own, adjusted_p=p) for own, p in zip(found, correct([own.p_value for own in found]), strict=True)]
    return corrected[: len(rows)], corrected[len(rows) :]


def list_flips(evaluation: Evaluation, before: Array, after: Array) -> Iterable[Flip]:
    """Give every row with another answer, in the order of the sets."""
    start = 0
    for name, own in evaluation.sets.items():
        answers = before[start : start + len(own.y)], after[start : start + len(own.y)]
        for row in np.flatnonzero(answers[0] != answers[1]).tolist():
            expected, was, now = int(own.y[row]), int(answers[0][row]), int(answers[1][row])
            yield Flip(name, row, expected, was, now, "lost" if was == expected else "won" if now == expected else "switched")
        start += len(own.y)


def count_matrix(before: Array, after: Array, classes: int) -> list[list[int]]:
    """Give how many rows went from each class, "row", to each other one, "column"."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (before, after), 1)
    np.fill_diagonal(counts, 0)
    return [[int(count) for count in row] for row in counts]
