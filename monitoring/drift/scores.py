"""
Values as scores: where a value lies in the reference, in the reference's own sigma.

Each feature's values fall into `CELLS` cells of equal width over eight robust sigma to either side of the middle; the outermost
take whatever is farther, the first a missing value. A cell's score is the mean of a standard normal variable over the part of the
distribution the cell holds (van der Waerden's normal scores, averaged over ties), then scaled to variance 1. So one wild value
counts at most `MOST`, however wild it is; a feature of any shape has scores of mean 0; and for normal values a score is the
distance from the mean in sigma.

A part `CONTAMINATION` of the reference, or one row where it has fewer, is taken to lie in the outermost cells, whether or not it does:
single outliers that the reference happens not to have are no drift.

Source: van der Waerden, "Order tests for the two-sample problem and their power", Indagationes Mathematicae 14, 1952;
contamination: Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35, 1964; one row more than was
seen: Laplace's rule of succession.
"""

import math
from statistics import NormalDist
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
CELLS = 128
MISSING = 0  # the cell of a missing value
REACH = 8.0  # robust sigma between the middle and the outermost cells
CONTAMINATION = 0.005
MOST = 10.0
_LEAST_SIGMA = 0.1  # of unscaled scores: what happens in less than about one row of a thousand is no unit to measure by
PER_SIGMA = (CELLS - 2) / 2 / REACH  # cells
_IQR = 1.349  # of a standard normal variable
_MIDDLE = 1 + (CELLS - 2) / 2 + 0.5


def find_cells(features: Array) -> tuple[Array, Array]:
    """
    Choose where each feature's cells lie.

    Args:
        features: "row feature" float32.

    Returns:
        Middles and robust sigma, "feature" float32 each: half the interquartile range over a normal variable's, where that is 0
        the standard deviation, where that is 0 too a thousandth of the value.
    """
    middles, sigmas = np.zeros(features.shape[1], np.float32), np.ones(features.shape[1], np.float32)
    for index, column in enumerate(features.T):
        known = column[np.isfinite(column)].astype(np.float64)
        if not len(known):
            continue
        low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
        sigma = (high - low) / _IQR or float(known.std()) or max(abs(middle), 1.0) * 1e-3
        # Six digits: another processor's sums may differ in the last ones, and these numbers are part of a digest.
        middles[index], sigmas[index] = float(f"{middle:.6g}"), max(float(f"{sigma:.6g}"), 1e-30)
    return middles, sigmas


class Cells:
    """Finds cells; made once, used on every row."""

    def __init__(self, middles: Array, sigmas: Array) -> None:
        """Take middles and robust sigma, "feature" float32."""
        with np.errstate(over="ignore"):
            self._factor = np.minimum(np.float64(PER_SIGMA) / sigmas, 3e38).astype(np.float32)
        self._middles = middles
        self._starts = (np.arange(len(middles)) * CELLS).astype(np.float32)

    def locate(self, features: Array) -> Array:
        """
        Give each value's cell, "row feature" int64, counted through all features: ``feature * CELLS + cell``.

        Args:
            features: "row feature" float32; NaN where a value is missing.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            # The middle first: far from zero, a product would have lost what is being looked for.
            places = features - self._middles
            places *= self._factor
        places += np.float32(_MIDDLE)
        np.maximum(places, 1, out=places)
        np.minimum(places, CELLS - 1, out=places)
        np.fmax(places, MISSING, out=places)  # the larger number, and NaN is none
        # Added as floats, which hold integers up to 2^24: twice as fast.
        np.floor(places, out=places)
        places += self._starts
        return places.astype(np.intp)


def count_cells(cells: Array, features: int) -> Array:
    """Count what `Cells.locate` found, "feature cell" int64."""
    return np.bincount(cells.ravel(), minlength=features * CELLS).reshape(features, CELLS)


def weigh_cells(counts: Array) -> Array:
    """Give the reference distribution of one feature's counts, "cell" float64, with the assumed outliers."""
    total = max(int(counts.sum()), 1)
    unseen = max(CONTAMINATION, 1 / (total + 1))
    weights = (1 - unseen) * counts / total
    weights[[1, CELLS - 1]] += unseen / 2
    return np.asarray(weights / weights.sum(), np.float64)


def score_cells(weights: Array) -> Array:
    """
    Give the score of each cell of one feature, "cell" float64, within `MOST`; a missing value scores 0.

    Args:
        weights: "cell", from `weigh_cells`.
    """
    normal = NormalDist()
    known = weights[1:] / max(float(weights[1:].sum()), 1e-12)
    below = np.minimum(np.concatenate(([0.0], np.cumsum(known))), 1.0)
    edges = np.array([normal.inv_cdf(part) if 1e-9 < part < 1 - 1e-9 else math.copysign(math.inf, part - 0.5) for part in below])
    heights = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
    middle = np.clip(np.where(np.isfinite(edges[:-1]), edges[:-1], edges[1:]), -4, 4)  # of a cell that holds nothing
    scores = np.zeros(CELLS)
    scores[1:] = np.where(known > 1e-12, (heights[:-1] - heights[1:]) / np.maximum(known, 1e-12), middle)
    scores[1:] -= float(known @ scores[1:])
    sigma = math.sqrt(float(known @ scores[1:] ** 2))
    return np.asarray(np.clip(scores / max(sigma, _LEAST_SIGMA), -MOST, MOST))
