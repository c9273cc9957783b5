"""Accuracy from labels, with the interval that so many labels leave."""

import math
from typing import Final, NamedTuple

_Z: Final = 1.959963984540054  # 97.5 % point of the standard normal distribution


class Accuracy(NamedTuple):
    """A part of labelled answers that were right, and its 95 % interval."""

    labelled: int
    correct: int
    ratio: float
    low: float
    high: float


def find_accuracy(labelled: int, correct: int) -> Accuracy | None:
    """
    Give the accuracy of labelled answers; None where there are none.

    Args:
        labelled: Answers whose label is known.
        correct: Those among them that were right.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22, 1927.
    """
    if not labelled:
        return None
    ratio = correct / labelled
    scale = 1 + _Z**2 / labelled
    middle = (ratio + _Z**2 / (2 * labelled)) / scale
    half = _Z / scale * math.sqrt(ratio * (1 - ratio) / labelled + _Z**2 / (4 * labelled**2))
    return Accuracy(labelled, correct, ratio, max(0.0, middle - half), min(1.0, middle + half))
