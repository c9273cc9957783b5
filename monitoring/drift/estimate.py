"""
Accuracy without labels: what the answers' confidence says about how many of them are right.

Labelled rows from before the release say how often an answer of some confidence is right (bins of equal size, made
monotone). In production each answer counts by its confidence's part: their mean is the estimated accuracy, as long as that
relation holds. It follows inputs that have become harder. It is blind to concept drift: where the same inputs have come to mean
something else, the model is as confident as before and the estimate stays; only labels show that.

Source: confidence-based performance estimation: NannyML, "How it works: performance estimation" (CBPE); Guillory, Shankar,
Ebrahimi, Darrell, Schmidt, "Predicting with confidence on unseen distributions", ICCV 2021; calibration by bins: Zadrozny,
Elkan, "Obtaining calibrated probability estimates from decision trees and naive Bayesian classifiers", ICML 2001; made monotone
by pooling adjacent violators: Ayer, Brunk, Ewing, Reid, Silverman, Annals of Mathematical Statistics 26, 1955.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
BINS = 12
WINDOW_ROWS = 10_000  # of production that an estimate is about, at least half of them
BLINDNESS = (
    "An estimate from confidence sees inputs that have become harder; it cannot see concept drift, where the same inputs have come to "
    "mean something else: only labels show that."
)
_Z = 1.96  # 95 %, both sides


@dataclass(frozen=True, slots=True)
class Calibration:
    """
    How often answers were right by confidence.

    Attributes:
        edges: "bin - 1" float64 ascending, confidences between bins.
        rows: "bin" uint32, labelled rows, counting copies of one original once.
        right: "bin" uint32, those answered right.
        tested: Accuracy of the rows that are like production, 0 to 1: what an estimate is compared with.
    """

    edges: Array
    rows: Array
    right: Array
    tested: float

    @property
    def rates(self) -> Array:
        """The part that is right in each bin, "bin" float64, never falling with confidence; half a row of either kind is added to each."""
        means = [(float(r) + 0.5) / (float(n) + 1) for r, n in zip(self.right, self.rows, strict=True)]
        pools: list[tuple[float, float, int]] = []  # mean, weight, bins
        for mean, weight in zip(means, (float(n) + 1 for n in self.rows), strict=True):
            own = (mean, weight, 1)
            while pools and pools[-1][0] >= own[0]:
                last = pools.pop()
                total = last[1] + own[1]
                own = ((last[0] * last[1] + own[0] * own[1]) / total, total, last[2] + own[2])
            pools.append(own)
        return np.repeat([mean for mean, _, _ in pools], [count for _, _, count in pools])

    @classmethod
    def check(cls, edges: Array, calibrated: Array, tested: float) -> "Calibration":
        """
        Take arrays from a file.

        Raises:
            ValueError: They do not fit together.
        """
        sound = edges.dtype == np.float64 and edges.ndim == 1 and len(edges) < 1024 and np.isfinite(edges).all()
        sound = sound and bool((np.diff(edges) > 0).all()) and calibrated.dtype == np.uint32 and calibrated.shape == (2, len(edges) + 1)
        sound = sound and isinstance(tested, float | int) and 0 <= tested <= 1
        if not sound or (calibrated[1] > calibrated[0]).any():
            raise ValueError(f"the calibration has edges of shape {edges.shape} and counts of shape {calibrated.shape} that do not fit")
        return cls(edges, calibrated[0], calibrated[1], float(tested))


@dataclass(frozen=True, slots=True)
class AccuracyEstimate:
    """
    An estimated accuracy, 0 to 1, with a 95 % interval, over how many rows of production, beside the reference's own.

    ``fell`` says that the interval lies below the reference's accuracy.
    """

    accuracy: float
    low: float
    high: float
    rows: int
    reference: float
    sentence: str = BLINDNESS

    @property
    def fell(self) -> bool:
        """Whether the whole interval is below the accuracy that was tested."""
        return self.high < self.reference


def calibrate(confidence: Array, right: Array, *, ordinary: int | None = None, independent: float = 1.0, bins: int = BINS) -> Calibration:
    """
    Count right answers by confidence.

    Args:
        confidence: "row", 0 to 1.
        right: "row" bool.
        ordinary: How many rows, the first ones, are like production; default: all of them.
        independent: The part of the rows that are not copies of others, in (0, 1]: counts are lowered by it.
        bins: Of about equal size; fewer where confidences are tied.
    """
    known = confidence.astype(np.float64)
    edges = np.unique(np.round(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1]), 9))
    places = np.searchsorted(edges, known, side="right")
    rows, hits = (np.bincount(own, minlength=len(edges) + 1) for own in (places, places[right]))
    hits = np.minimum(hits, rows)
    tested = float(right[:ordinary].mean()) if len(right) else 0.0
    labelled, known_right = (np.round(own * independent).astype(np.uint32) for own in (rows, hits))
    return Calibration(edges, labelled, known_right, round(tested, 6))


def estimate_accuracy(calibration: Calibration, counts: Array) -> AccuracyEstimate | None:
    """
    Estimate the accuracy of production rows; None without any.

    The interval has two parts: the calibration is known from finitely many labels (each bin's rate has a beta distribution's
    variance, weighted by how much of production falls into it), and production's own rows would be right by chance.

    Args:
        calibration: From labelled rows.
        counts: "bin", rows of production.
    """
    rows = int(counts.sum())
    if not rows:
        return None
    parts, rates = counts / rows, calibration.rates
    accuracy = float(parts @ rates)
    labelled = float((parts**2) @ (rates * (1 - rates) / (calibration.rows.astype(np.float64) + 2)))
    own = float(parts @ (rates * (1 - rates))) / rows
    margin = _Z * math.sqrt(labelled + own)
    return AccuracyEstimate(accuracy, max(0.0, accuracy - margin), min(1.0, accuracy + margin), rows, calibration.tested)


class AccuracyEstimator:
    """Counts production's confidences and estimates the accuracy of the last rows, in constant memory."""

    def __init__(self, calibration: Calibration, *, window: int = WINDOW_ROWS) -> None:
        """
        Begin without rows.

        Args:
            calibration: From labelled rows.
            window: Rows that an estimate is about, from half as many up.
        """
        self._calibration = calibration
        self._half = max(1, window // 2)
        self.counts = np.zeros((2, len(calibration.edges) + 1), np.int64)  # the half before, and the one being filled

    def observe(self, confidence: Array) -> None:
        """Count rows by confidence, "row" 0 to 1."""
        self.counts[1] += np.bincount(np.searchsorted(self._calibration.edges, confidence, side="right"), minlength=self.counts.shape[1])
        if self.counts[1].sum() >= self._half:
            self.counts = np.stack((self.counts[1], np.zeros_like(self.counts[1])))

    def estimate(self) -> AccuracyEstimate | None:
        """Give the estimate; None without rows."""
        return estimate_accuracy(self._calibration, self.counts.sum(axis=0))
