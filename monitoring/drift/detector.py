"""
One false-alarm budget for a family of features: the average of their e-detectors, alarming at the run length.

For each bet, R begins with one unit of stake at every row and multiplies what is staked: R = (R + 1) * factor. While nothing has
drifted further than tolerated, the expectation of R after t rows is at most t; so is that of any weighted average of such R, however
the features depend on each other. An alarm when the average reaches c therefore comes, on average, no sooner than after c rows: the
run length a user sets holds for all features, bets and directions together.

Rows are taken `BLOCK` at a time: a block's stake is as many units as it has rows. Values are cut where that can only lower the
evidence. Beside it runs, for each feature and direction, a CUSUM of one bet: not to alarm, but to say since when.

Source: Shin, Ramdas, Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", The New England Journal
of Statistics in Data Science 2, 2023: theorem 2.4 (average run length), section 2.3 (mixtures); Shiryaev, "On optimum methods in
quickest detection problems", Theory of Probability and its Applications 8, 1963; Roberts, "A comparison of some control chart
procedures", Technometrics 8, 1966; CUSUM: Page, "Continuous inspection schemes", Biometrika 41, 1954.
"""

from typing import Any, Final

import numpy as np

from lastgood.monitoring.drift.bets import SHIFT_BETS, SPREAD_BETS, Bets

Array = np.ndarray[Any, Any]
BLOCK: Final = 16  # rows
CHUNK: Final = 16  # blocks taken at once
CAP: Final = 10.0  # run lengths: evidence above this would only keep an alarm from ending
DIRECTIONS: Final = ("up", "down", "wider", "narrower")
_MOST_LOG: Final = 50.0  # of one block's factor
# The bets whose CUSUM says since when, in the order of DIRECTIONS.
_TRACKED: Final = (
    list(SHIFT_BETS).index(0.4),
    len(SHIFT_BETS) + list(SHIFT_BETS).index(0.4),
    2 * len(SHIFT_BETS) + list(SPREAD_BETS).index(0.35),
    2 * len(SHIFT_BETS) + len(SPREAD_BETS) + list(SPREAD_BETS).index(0.35),
)
STATE: Final = ("stakes", "sums", "squares", "risen", "begun", "sums_then", "squares_then")


class FamilyDetector:
    """
    The e-detectors of all features.

    Attributes:
        stakes: "feature bet" float64: R of each bet.
        sums, squares: "feature" float64: sums of scores and of squared scores of all blocks.
        risen: "feature direction": the CUSUM.
        begun: "feature direction" int64: after how many blocks its present rise began.
        sums_then, squares_then: "feature direction": the sums at that time.
    """

    def __init__(self, features: int, bets: Bets, run_length: float) -> None:
        """Begin without rows."""
        self.blocks = 0
        self._run_length = run_length
        self.stakes = np.zeros((features, len(bets.stakes)))
        self.sums, self.squares = np.zeros(features), np.zeros(features)
        shape = (features, len(DIRECTIONS))
        self.risen, self.begun = np.zeros(shape), np.zeros(shape, np.int64)
        self.sums_then, self.squares_then = np.zeros(shape), np.zeros(shape)
        self.bet(bets)

    def bet(self, bets: Bets) -> None:
        """Use other bets from now on; what was won stays."""
        self._bets = bets
        features = len(self.sums)
        self._factors = bets.factors.astype(np.float32)
        mean, sigma = bets.squares
        costs = BLOCK * bets.costs
        # The squared score enters as it is; its mean and sigma go into the factor and the cost.
        self._square_factors = (bets.factors[bets.shifts :] / sigma[:, None]).astype(np.float32)
        costs[:, bets.shifts :] += BLOCK * bets.factors[bets.shifts :] * (mean / sigma)[:, None]
        self._costs = costs.astype(np.float32)
        self._weights = np.tile(bets.stakes / features, features)
        with np.errstate(divide="ignore"):
            self._most = CAP * self._run_length / self._weights

    def add(self, sums: Array, squares: Array) -> Array:
        """
        Take blocks of `BLOCK` rows, at most `CHUNK`.

        Args:
            sums: "block feature" sums of scores.
            squares: "block feature" sums of squared scores.

        Returns:
            The family's evidence after each block, "block" float64; an alarm where it is the run length or more.
        """
        count, shifts = len(sums), self._bets.shifts
        logs = np.empty((count, *self.stakes.shape), np.float32)
        np.multiply(sums[:, :, None], self._factors[:shifts], out=logs[:, :, :shifts], casting="same_kind")
        np.multiply(squares[:, :, None], self._square_factors, out=logs[:, :, shifts:], casting="same_kind")
        logs -= self._costs
        np.minimum(logs, _MOST_LOG, out=logs)
        self._track(logs[:, :, _TRACKED], sums, squares)
        factors = np.exp(logs, out=logs).reshape(count, -1)
        stakes, evidence = self.stakes.reshape(-1), np.empty(count)
        for index in range(count):
            stakes += BLOCK
            stakes *= factors[index]
            np.minimum(stakes, self._most, out=stakes)
            evidence[index] = stakes @ self._weights
        return evidence

    def weigh(self) -> tuple[Array, Array]:
        """Give each feature's own evidence, "feature", and that of its directions, "feature direction" by `DIRECTIONS`."""
        won = self.stakes * self._bets.stakes
        cuts = np.cumsum([0, len(SHIFT_BETS), len(SHIFT_BETS), len(SPREAD_BETS)])
        return won.sum(axis=1), np.add.reduceat(won, cuts, axis=1)

    def restart(self) -> None:
        """Forget the evidence, and since when."""
        self.stakes[:] = 0
        self.risen[:] = 0
        self.begun[:] = self.blocks
        self.sums_then[:], self.squares_then[:] = self.sums[:, None], self.squares[:, None]

    def _track(self, logs: Array, sums: Array, squares: Array) -> None:
        """Move the CUSUMs on: where one has been at 0, its rise begins there."""
        paths = self.risen + np.cumsum(logs, axis=0, dtype=np.float64)
        lowest = paths.argmin(axis=0)
        every = np.arange(len(self.sums))[:, None]
        least = np.minimum(paths.min(axis=0), 0)
        fresh = least < 0
        self.risen = paths[-1] - least
        own, squared = self.sums + np.cumsum(sums, axis=0, dtype=np.float64), self.squares + np.cumsum(squares, axis=0, dtype=np.float64)
        self.begun = np.where(fresh, self.blocks + lowest + 1, self.begun)
        self.sums_then = np.where(fresh, own[lowest, every], self.sums_then)
        self.squares_then = np.where(fresh, squared[lowest, every], self.squares_then)
        self.sums, self.squares = own[-1], squared[-1]
        self.blocks += len(sums)
