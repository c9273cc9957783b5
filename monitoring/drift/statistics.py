"""
Two windows compared at leisure: population stability index, Kolmogorov-Smirnov, chi-square and Wasserstein distance by feature.

All are computed from counts in the profile's cells, so neither side's rows need to be kept. They are for people and for looking
back: each has a level that holds for one look at one window, corrected over the features of that look but not over looks. What watches
all the time is the monitor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from lastgood.monitoring.drift.scores import MISSING, PER_SIGMA

Array = np.ndarray[Any, Any]
BINS: Final = 10
LEVEL: Final = 0.01
NOTABLE_PSI: Final = 0.1
NOTABLE_SIGMA: Final = 0.1
_LEAST_EXPECTED: Final = 5.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    One feature in two windows.

    Attributes:
        psi: Population stability index over about ten bins; 0 is the same.
        ks: Largest distance between the two distribution functions, 0 to 1.
        ks_p: Its p-value; conservative for tied values.
        chi_square: Of the same bins.
        chi_square_p: Its p-value.
        wasserstein_sigma: Area between the distribution functions, in robust sigma; values beyond eight count as eight.
        adjusted_p: The smaller of both p-values, corrected for everything that was compared; from `correct`.
    """

    psi: float
    ks: float
    ks_p: float
    chi_square: float
    chi_square_p: float
    wasserstein_sigma: float
    adjusted_p: float = 1.0

    @property
    def moved(self) -> bool:
        """Whether the difference is no chance and large enough to matter: in many rows every difference is no chance."""
        return self.adjusted_p < LEVEL and (self.psi >= NOTABLE_PSI or self.wasserstein_sigma >= NOTABLE_SIGMA)


def compare_counts(reference: Array, current: Array) -> Comparison:
    """
    Compare one feature's counts in the profile's cells.

    Args:
        reference: "cell", of the reference; one row or more.
        current: "cell", of the window; one row or more.
    """
    bins = merge_cells(reference)
    before, now = (np.bincount(bins, own) for own in (reference, current))
    chi_square, chi_square_p = run_chi_square(before, now)
    ks, ks_p = run_kolmogorov_smirnov(reference, current)
    return Comparison(measure_psi(before, now), ks, ks_p, chi_square, chi_square_p, measure_wasserstein(reference, current))


def merge_cells(reference: Array, bins: int = BINS) -> Array:
    """Give each cell's bin, "cell" int64: about equally many rows of the reference in each, and missing values in one of their own."""
    known = reference.astype(np.float64).copy()
    known[MISSING] = 0
    before = (np.cumsum(known) - known / 2) / max(known.sum(), 1.0)
    found = 1 + np.minimum((before * bins).astype(np.int64), bins - 1)
    found[MISSING] = 0
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def measure_psi(before: Array, now: Array) -> float:
    """
    Give the population stability index of two windows' counts by bin; half a row is added to each bin, so that it is finite.

    Source: Siddiqi, "Credit risk scorecards", 2006, chapter 9: below 0.1 no significant change, above 0.25 a large one.
    """
    one, other = ((own + 0.5) / (own.sum() + 0.5 * len(own)) for own in (before, now))
    return float(((other - one) * np.log(other / one)).sum())


def run_kolmogorov_smirnov(reference: Array, current: Array) -> tuple[float, float]:
    """
    Give the two-sample statistic and its asymptotic p-value, from counts by cell; missing values come first.

    Source: Smirnov, "Table for estimating the goodness of fit of empirical distributions", Annals of Mathematical Statistics 19, 1948.
    """
    from scipy.special import kolmogorov

    one, other = float(reference.sum()), float(current.sum())
    distance = float(np.abs(np.cumsum(reference) / one - np.cumsum(current) / other).max())
    return distance, float(kolmogorov(math.sqrt(one * other / (one + other)) * distance))


def run_chi_square(before: Array, now: Array) -> tuple[float, float]:
    """
    Give the statistic of homogeneity of two windows' counts by bin, and its p-value.

    Neighbouring bins are joined until five rows are expected in each: below, the approximation is poor.

    Source: Pearson, Philosophical Magazine 50, 1900; five: Cochran, "Some methods for strengthening the common chi-square tests",
    Biometrics 10, 1954.
    """
    from scipy.stats import chi2

    smaller = min(before.sum(), now.sum()) / (before.sum() + now.sum())
    joined: list[Array] = []
    own = np.zeros(2)
    for pair in np.stack((before, now), axis=1):
        own = own + pair
        if own.sum() * smaller >= _LEAST_EXPECTED:
            joined, own = [*joined, own], np.zeros(2)
    if joined:
        joined[-1] = joined[-1] + own
    if len(joined) < 2:
        return 0.0, 1.0
    table = np.array(joined)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return statistic, float(chi2.sf(statistic, len(joined) - 1))


def measure_wasserstein(reference: Array, current: Array) -> float:
    """
    Give the Wasserstein-1 distance of known values, in robust sigma of the reference.

    Source: the area between the distribution functions: Vallender, "Calculation of the Wasserstein distance between probability
    distributions on the line", Theory of Probability and its Applications 18, 1974.
    """
    one, other = (own[MISSING + 1 :].astype(np.float64) for own in (reference, current))
    if not one.sum() or not other.sum():
        return 0.0
    return float(np.abs(np.cumsum(one) / one.sum() - np.cumsum(other) / other.sum()).sum() / PER_SIGMA)


def correct(p_values: Sequence[float]) -> list[float]:
    """
    Correct p-values for how many there are: with probability 1 - level, none of those below the level is by chance alone.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    count = len(p_values)
    corrected, least = [1.0] * count, 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda index: p_values[index])):
        least = max(least, min(1.0, (count - rank) * p_values[index]))
        corrected[index] = least
    return corrected


def correct_all(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Give the comparisons of one look with their corrected p-values: two tests for each feature are one family."""
    corrected = correct([p for own in comparisons for p in (own.ks_p, own.chi_square_p)])
    return [replace(own, adjusted_p=min(corrected[2 * index : 2 * index + 2])) for index, own in enumerate(comparisons)]
