"""
One false-alarm budget for a family of features: the average of their e-detectors, alarming at the run length.

For each bet, R begins with one unit of stake at every row and multiplies what is staked: R = (R + 1) * factor. While nothing has
drifted further than tolerated, the expectation of R after t rows is at most t; so is that of any weighted average of such R, however
the features depend on each other. An alarm when the average reaches c therefore comes, on average, no sooner than after c rows: the
run length a user sets holds for all features, bets and directions together.

Rows are taken `BLOCK` at a time: a block's stake is as many units as it has rows. Factors and stakes are cut, which can only lower
the evidence.

Source: Shin, Ramdas, Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", The New England Journal
of Statistics in Data Science 2, 2024 (the average run length of e-detectors and of their mixtures); Shiryaev, "On optimum methods in
quickest detection problems", Theory of Probability and its Applications 8, 1963; Roberts, "A comparison of some control chart
procedures", Technometrics 8, 1966.
"""

from typing import Any, Final, NamedTuple

import numpy as np

from lastgood.monitoring.drift.bets import Bets
from lastgood.monitoring.drift.history import Change, History

Array = np.ndarray[Any, Any]
BLOCK: Final = 16  # rows
CHUNK: Final = 16  # blocks taken at once
CAP: Final = 10.0  # run lengths: evidence above this would only keep an alarm from ending
# Of one block's factor. Requests come in bursts of their like; at 3.5 it takes some four blocks of them to raise an alarm at the default
# run length, however far off they are, and half a sigma is found as soon as without.
_MOST_LOG: Final = 3.5


class Suspect(NamedTuple):
    """A feature with evidence of its own, in rows, the group of bets that won most (`Bets.groups`), and where its change began."""

    feature: int
    evidence: float
    group: str
    change: Change


class FamilyDetector:
    """
    The e-detectors of all features.

    Attributes:
        stakes: "feature bet" float64: R of each bet.
        history: What says since when.
    """

    def __init__(self, features: int, bets: Bets, run_length: float) -> None:
        """Begin without rows."""
        self._run_length = run_length
        self.stakes = np.zeros((features, len(bets.stakes)))
        self.history = History(features, BLOCK)
        self.bet(bets)

    def bet(self, bets: Bets) -> None:
        """Use other bets from now on; what was won stays."""
        self._bets = bets
        features = len(self.stakes)
        self._factors = bets.factors.astype(np.float32)
        self._costs = (BLOCK * bets.costs).astype(np.float32)
        self._weights = np.tile(bets.stakes / features, features)
        self._most = CAP * self._run_length / self._weights

    def add(self, sums: Array, squares: Array, times: Array) -> Array:
        """
        Take blocks of `BLOCK` rows, at most `CHUNK`.

        Args:
            sums: "block feature" sums of scores.
            squares: "block feature" sums of squared scores.
            times: "block" mean unix seconds.

        Returns:
            The family's evidence after each block, "block" float64, in rows; an alarm where it is the run length or more.
        """
        self.history.add(sums, squares, times)
        count, shifts = len(sums), self._bets.shifts
        logs = np.empty((count, *self.stakes.shape), np.float32)
        np.multiply(sums[:, :, None], self._factors[:, :shifts], out=logs[:, :, :shifts], casting="same_kind")
        np.multiply(squares[:, :, None], self._factors[:, shifts:], out=logs[:, :, shifts:], casting="same_kind")
        logs -= self._costs
        np.minimum(logs, _MOST_LOG, out=logs)
        factors = np.exp(logs, out=logs).reshape(count, -1)
        path, last = np.empty(factors.shape), self.stakes.reshape(-1)
        for number, factor in enumerate(factors):
            last = np.add(last, BLOCK, out=path[number])
            last *= factor
            np.minimum(last, self._most, out=last)
        self.stakes = last.reshape(self.stakes.shape).copy()
        return np.asarray(path @ self._weights)

    def find_suspects(self, level: float) -> list[Suspect]:
        """
        Name the features that moved, the clearest first, at least one.

        Args:
            level: In rows, as the run length: of what is named, in the long run, at most one in so many rows is named wrongly.

        Source of how many: Wang, Ramdas, "False discovery rate control with e-values", Journal of the Royal Statistical Society B
        84, 2022: the k largest, where the least of them is at least the number of features over k times the level.
        """
        won = self.stakes * self._bets.stakes
        own = won.sum(axis=1)
        order = np.argsort(-own, kind="stable")
        enough = np.flatnonzero(own[order] * np.arange(1, len(own) + 1) >= level * len(own))
        return [self._describe(int(feature), won[feature]) for feature in order[: int(enough[-1]) + 1 if len(enough) else 1]]

    def _describe(self, feature: int, won: Array) -> Suspect:
        group = max(self._bets.groups, key=lambda name: float(won[self._bets.groups[name]].sum()))
        bets = self._bets.groups[group]
        squared = bets.start >= self._bets.shifts
        factors, costs = self._bets.factors[feature, bets], self._bets.costs[feature, bets]
        return Suspect(feature, float(won.sum()), group, self.history.find_change(feature, squared=squared, factors=factors, costs=costs))

    def restart(self) -> None:
        """Forget the evidence, and what was before now."""
        self.stakes[:] = 0
        self.history.forget()
