"""
Bets on drift: what a row's score says for "further than tolerated", so that it can be multiplied up.

A feature's reference distribution, tilted by exp(t * score), has its mean moved; the tilts are an exponential family through
the reference. The bet is a likelihood ratio: a tilt that lies further out, over the one at the edge of what is tolerated. Its
expectation is at most 1 under the reference and every tilt up to the edge, for the family's likelihood ratios are monotone: a
composite null hypothesis, not "exactly the sample that was seen". The same with the squared score finds wider and narrower.

Source: exponential tilting: Esscher, "On the probability function in the collective theory of risk", Skandinavisk
Aktuarietidskrift 15, 1932; Karlin, Rubin, "The theory of decision procedures for distributions with monotone likelihood
ratio", Annals of Mathematical Statistics 27, 1956; bets mixed: Robbins, 1970.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, Any]
# How far beyond the edge of the tolerated a bet lies, in sigma, and the part of the stake on each, for either direction.
# Chosen for the fewest rows at half a sigma; the smallest finds what is a tenth beyond the edge, given time.
SHIFT_BETS: Mapping[float, float] = MappingProxyType({0.1: 0.06, 0.2: 0.1, 0.4: 0.18, 0.8: 0.06})
SPREAD_BETS: Mapping[float, float] = MappingProxyType({0.12: 0.04, 0.35: 0.06})
DIRECTIONS: Final = ("up", "down", "wider", "narrower")
_STEPS = 60  # of bisection
_FARTHEST = 40.0  # tilt
_SAME = 1e-9  # variance of a score that is always the same
_VOID = 100.0  # a cost that no score pays for


@dataclass(frozen=True)
class Bets:
    """
    All bets of all features.

    Attributes:
        factors: "feature bet": what a score (shift bets) or squared score (spread bets) is multiplied with.
        costs: "feature bet": what is taken off for each row, so that the expectation is at most 1; more than any score pays for
            where a bet is void.
        stakes: "bet", adding up to 1.
        shifts: How many bets, the first ones, are on scores; the others are on squared scores.
        groups: The bets of each direction.
    """

    factors: Array
    costs: Array
    stakes: Array
    shifts: int
    groups: Mapping[str, slice]


def place_bets(scores: Array, weights: Array, *, tolerated: Array, tolerated_spread: Array) -> Bets:
    """
    Make the bets of a reference.

    Args:
        scores: "feature cell" float64.
        weights: "feature cell" float64, the reference distribution of each feature.
        tolerated: "feature", by how many sigma a mean may be off.
        tolerated_spread: "feature", by how many of its own sigma the mean squared score may be off.
    """
    mean = (weights * scores**2).sum(axis=1, keepdims=True)
    sigma = np.sqrt(np.maximum((weights * (scores**2 - mean) ** 2).sum(axis=1, keepdims=True), _SAME))
    squares = (scores**2 - mean) / sigma
    one, none = np.ones(len(scores)), np.zeros(len(scores))
    # What a unit of the bet's value is of a score or squared score, and what of it is fixed.
    kinds = [(scores, SHIFT_BETS, tolerated, one, none), (squares, SPREAD_BETS, tolerated_spread, 1 / sigma[:, 0], (mean / sigma)[:, 0])]
    factors: list[Array] = []
    costs: list[Array] = []
    stakes: list[float] = []
    groups = {}
    names = iter(DIRECTIONS)
    for values, bets, edge, unit, fixed in kinds:
        for sign in (1.0, -1.0):
            at_edge = _find_tilt(sign * values, weights, edge)
            groups[next(names)] = slice(len(stakes), len(stakes) + len(bets))
            for distance, stake in bets.items():
                cost = _log_mean(sign * values, weights, at_edge + distance) - _log_mean(sign * values, weights, at_edge)
                factors.append(sign * distance * unit)
                # A mean that cannot be as far out as is tolerated has nothing beyond it to bet on.
                costs.append(np.where(at_edge < _FARTHEST, cost + sign * distance * fixed, _VOID))
                stakes.append(stake)
    return Bets(np.stack(factors, axis=1), np.stack(costs, axis=1), np.array(stakes), 2 * len(SHIFT_BETS), groups)


def _log_mean(values: Array, weights: Array, tilt: Array) -> Array:
    """Give ln E exp(tilt * value), "feature"."""
    powers = tilt[:, None] * values
    top = powers.max(axis=1, where=weights > 0, initial=-np.inf, keepdims=True)
    return np.asarray(top[:, 0] + np.log((weights * np.exp(np.minimum(powers - top, 0))).sum(axis=1)))


def _find_tilt(values: Array, weights: Array, edge: Array) -> Array:
    """Give the tilt that moves each feature's mean to the edge, "feature", by bisection; the farthest where none does."""
    low, high = np.zeros(len(values)), np.full(len(values), _FARTHEST)
    for _ in range(_STEPS):
        tilt = (low + high) / 2
        powers = tilt[:, None] * values
        tilted = weights * np.exp(np.minimum(powers - powers.max(axis=1, where=weights > 0, initial=-np.inf, keepdims=True), 0))
        short = (tilted * values).sum(axis=1) / tilted.sum(axis=1) < edge
        low, high = np.where(short, tilt, low), np.where(short, high, tilt)
    return np.where(low > _FARTHEST * 0.99, _FARTHEST, low)
