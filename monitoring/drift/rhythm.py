"""
Daily rhythm: how a feature's score moves with the hour of the day, as three sine waves each for its mean and its square.

It is learnt from rows with known times, at training or over whole days of production, by least squares; never from less than
most of a day. A week's rhythm is not modelled.

Source: harmonic regression: Bloomfield, "Fourier analysis of time series", 1976, chapter 2.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
DAY_SECONDS = 86_400
HARMONICS = 3
TERMS = 1 + 2 * HARMONICS
_LEAST_HOURS = 20  # of the day's 24, with rows in them
_LEAST_SIGMA, _MOST_SIGMA = 0.5, 4.0
_FEW = 8  # values of a feature that is rather a category
_SUMS = ("gram", "firsts", "seconds", "hours")


def expand(times: Array) -> Array:
    """Give the waves at times, "row term" float64: 1, then sine and cosine of one, two and three cycles a day; times in unix seconds."""
    angles = (2 * math.pi / DAY_SECONDS) * np.remainder(times, DAY_SECONDS)[:, None] * np.arange(1, HARMONICS + 1)
    return np.concatenate((np.ones((len(times), 1)), np.sin(angles), np.cos(angles)), axis=1)


class RhythmSums:
    """What least squares needs of any number of rows: constant memory, and rows can be added at any time."""

    def __init__(self, features: int) -> None:
        """Begin with nothing."""
        self.gram = np.zeros((TERMS, TERMS))
        self.firsts = np.zeros((TERMS, features))
        self.seconds = np.zeros((TERMS, features))
        self.hours = np.zeros(24, np.int64)
        self.begin, self.end = math.inf, -math.inf

    @property
    def rows(self) -> int:
        """How many rows were added."""
        return int(self.hours.sum())

    def add(self, times: Array, firsts: Array, seconds: Array, count: int = 1) -> None:
        """
        Add groups of rows.

        Args:
            times: "group" mean unix seconds.
            firsts: "group feature" sums of scores.
            seconds: "group feature" sums of squared scores.
            count: Rows in each group.
        """
        waves = expand(times)
        self.gram += count * (waves.T @ waves)
        self.firsts += waves.T @ firsts
        self.seconds += waves.T @ seconds
        hours = (np.remainder(times, DAY_SECONDS) // 3600).astype(np.intp)
        self.hours += count * np.bincount(np.minimum(hours, 23), minlength=24)
        self.begin, self.end = min(self.begin, float(times.min())), max(self.end, float(times.max()))

    def is_enough(self, *, days: float, rows: int) -> bool:
        """Say whether the rows reach over so many days, nearly all hours, and are as many."""
        whole = self.end - self.begin >= days * DAY_SECONDS
        return whole and self.rows >= rows and int((self.hours > 0).sum()) >= _LEAST_HOURS

    def solve(self) -> tuple[Array, Array]:
        """Give the waves' parts in the mean and in the mean square, "term feature" float64 each."""
        steady = self.gram + 1e-9 * np.trace(self.gram) * np.eye(TERMS)
        return np.linalg.solve(steady, self.firsts), np.linalg.solve(steady, self.seconds)

    def to_json(self) -> dict[str, Any]:
        """Give the sums as JSON values; what is not finite is left out."""
        bounds = [self.begin, self.end] if self.rows else None
        return {"bounds": bounds, **{name: getattr(self, name).tolist() for name in _SUMS}}

    def restore(self, value: Mapping[str, Any]) -> None:
        """
        Take what `to_json` gave.

        Raises:
            ValueError: It is of another number of features.
        """
        for name in _SUMS:
            like = getattr(self, name)
            setattr(self, name, np.array(value[name], like.dtype).reshape(like.shape))
        self.begin, self.end = value["bounds"] or (math.inf, -math.inf)


def follow(waves: Array, firsts: Array, seconds: Array, *, few: Array) -> tuple[Array, Array]:
    """
    Give what scores are by the hour: mean and sigma, "row feature" each.

    Args:
        waves: "row term", from `expand`.
        firsts: "term feature", of the mean.
        seconds: "term feature", of the mean square.
        few: "feature", whether it has few values: such a feature is never magnified, for where its rare value is rarer
            still, a magnified score would count more than the bets allow for.
    """
    means = waves @ firsts
    sigmas = np.sqrt(np.maximum(waves @ seconds - means**2, 0))
    return means, np.clip(sigmas, np.where(few, 1.0, _LEAST_SIGMA), _MOST_SIGMA)


def has_few_values(counts: Array) -> Array:
    """Say for "feature cell" counts which features have few values, "feature" bool."""
    return np.asarray((counts > 0).sum(axis=1) <= _FEW)
