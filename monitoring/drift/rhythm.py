"""
Daily rhythm: how a feature's score moves with the hour of the day, as three sine waves each for its mean and its variance.

It is learnt from rows with known times, at training or over whole days of production, by least squares; never from less than
most of a day or few rows. A week's rhythm is not modelled.

Source: harmonic regression: Bloomfield, "Fourier analysis of time series", 1976, chapter 2.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
DAY_SECONDS = 86_400
HARMONICS = 3
TERMS = 1 + 2 * HARMONICS
LEAST_ROWS = 2_000  # with fewer, what is learnt is mostly chance
_LEAST_HOURS = 20  # of the day's 24, with rows in them
_LEAST_SIGMA, _MOST_SIGMA = 0.5, 4.0
_FEW = 8  # values of a feature that is rather a category
_SUMS = ("gram", "firsts", "seconds", "hours")


def expand(times: Array) -> Array:
    """Give the waves at times, "row term" float64: 1, then sine and cosine of one, two and three cycles a day; times in unix seconds."""
    angles = (2 * math.pi / DAY_SECONDS) * np.remainder(times, DAY_SECONDS)[:, None] * np.arange(1, HARMONICS + 1)
    return np.concatenate((np.ones((len(times), 1)), np.sin(angles), np.cos(angles)), axis=1)


class Rhythm(NamedTuple):
    """What scores are by the hour, as waves: "term feature" float64 of the mean and of the variance."""

    means: Array
    variances: Array

    def follow(self, waves: Array, *, few: Array) -> tuple[Array, Array]:
        """
        Give mean and sigma at some times, "row feature" each.

        Args:
            waves: "row term", from `expand`.
            few: "feature", whether it has few values: such a feature is never magnified, for where its rare value is rarer
                still, a magnified score would count more than the bets allow for.
        """
        sigmas = np.sqrt(np.maximum(waves @ self.variances, 0))
        return waves @ self.means, np.clip(sigmas, np.where(few, 1.0, _LEAST_SIGMA), _MOST_SIGMA)

    def centre(self, mean: Array, variance: Array) -> "Rhythm":
        """
        Give the rhythm relative to the mean and variance of the days it was learnt from.

        It takes away what the hour explains and nothing else: days that are off as a whole stay so.
        """
        means = self.means.copy()
        means[0] -= mean
        return Rhythm(means, self.variances / np.maximum(variance, 1e-6))


def fit_rhythm(times: Array, scores: Array) -> Rhythm | None:
    """
    Learn the rhythm of rows at hand; None where they are too few or leave hours out.

    Twice least squares: the variance is learnt from what the mean leaves, which is steadier than one pass.

    Args:
        times: "row" unix seconds.
        scores: "row feature".
    """
    sums = RhythmSums(scores.shape[1])
    sums.add(times, scores, scores**2)
    if not sums.is_enough(days=_LEAST_HOURS / 24, rows=LEAST_ROWS):
        return None
    waves, means = expand(times), sums.solve().means
    return Rhythm(means, np.linalg.lstsq(waves, (scores - waves @ means) ** 2, rcond=None)[0])


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

    def solve(self) -> Rhythm:
        """Give the rhythm, by one pass: the variance is the mean square less the squared mean."""
        steady = self.gram + 1e-9 * np.trace(self.gram) * np.eye(TERMS)
        means, squares = np.linalg.solve(steady, self.firsts), np.linalg.solve(steady, self.seconds)
        waves = expand(np.linspace(0, DAY_SECONDS, 97)[:-1])
        return Rhythm(means, np.linalg.lstsq(waves, np.maximum(waves @ squares - (waves @ means) ** 2, 0), rcond=None)[0])

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


def has_few_values(counts: Array) -> Array:
    """Say for "feature cell" counts which features have few values, "feature" bool."""
    return np.asarray((counts > 0).sum(axis=1) <= _FEW)
