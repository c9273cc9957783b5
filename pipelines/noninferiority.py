"""Is a new version at most so much less accurate than the live one, judged on the same rows?"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Paired:
    """
    How two versions did on the same rows.

    Attributes:
        rows: How many both answered.
        lost: Rows that only the live version had right.
        won: Rows that only the new version had right.
        design_effect: By how much rows made from the same originals inflate the variance, 1 or more.
    """

    rows: int
    lost: int
    won: int
    design_effect: float = 1.0

    @property
    def loss(self) -> float:
        """Accuracy of the live version minus that of the new one, -1 to 1."""
        return (self.lost - self.won) / self.rows


def compare_answers(new_right: Array, live_right: Array, groups: Array) -> Paired:
    """
    Count where two versions differ.

    Args:
        new_right: "row" bool, whether the new version had it right.
        live_right: "row" bool, the same for the live version.
        groups: "row" int64, the original each row was made from.

    Source of the design effect: Rao and Scott, "A simple method for the analysis of clustered binary data", Biometrics 48, 1992.
    """
    difference = live_right.astype(np.int64) - new_right.astype(np.int64)
    rows = len(difference)
    _, own = np.unique(groups, return_inverse=True)
    originals = int(own.max()) + 1
    mean = difference.mean()
    plain = float(((difference - mean) ** 2).sum())
    if plain == 0.0 or originals == 1:
        # Nothing to estimate the correlation from: count each original once.
        effect = rows / originals
    else:
        sums = np.bincount(own, weights=difference - mean)
        effect = float((sums**2).sum()) * originals / (originals - 1) / plain
    return Paired(rows, int((difference == 1).sum()), int((difference == -1).sum()), max(1.0, effect))


def bound_loss(paired: Paired, confidence: float) -> float:
    """
    Give the upper end of the one-sided confidence interval for the loss, 0 to 1.

    It is the score interval for a difference of paired proportions, on counts divided by the design effect.

    Args:
        paired: The counts.
        confidence: Such as 0.95.

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    Statistics in Medicine 17, 1998.
    """
    from scipy.stats import norm

    rows, lost, won = (count / paired.design_effect for count in (paired.rows, paired.lost, paired.won))
    z = float(norm.ppf(confidence))
    low, high = paired.loss, 1.0
    # The score falls as the supposed loss grows; halving until the doubles meet.
    for _ in range(60):
        middle = (low + high) / 2
        if score(rows, lost, won, middle) > -z:
            low = middle
        else:
            high = middle
    return high


def score(rows: float, lost: float, won: float, loss: float) -> float:
    """Give Tango's score statistic for a supposed loss; standard normal when the loss is that."""
    # The maximum-likelihood share of rows only the new version has right, given the supposed loss.
    a = 2 * rows
    b = -lost - won + (2 * rows - lost + won) * loss
    c = -won * loss * (1 - loss)
    share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = rows * (2 * share + loss * (1 - loss))
    distance = lost - won - rows * loss
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def widen_margin(margin: float, rows: int, *, enough: int = 5000) -> float:
    """
    Give the margin that this many rows can decide on: the one asked for from 5,000 rows, wider in proportion to the
    standard error below.
    """
    return margin if rows >= enough else margin * math.sqrt(enough / rows)
