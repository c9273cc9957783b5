"""
When a change began: sums of scores at earlier times, every block of late and ever sparser before, in constant memory.

The change is placed where a bet that begins there would have won most by now, which is Page's CUSUM read backwards.

Source: Page, "Continuous inspection schemes", Biometrika 41, 1954; the estimate of the time of change: Hinkley, "Inference about
the change-point from cumulative sum tests", Biometrika 58, 1971.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
MOST_MARKS = 128


class Change(NamedTuple):
    """Where a change began: the block, its unix seconds, and the feature's mean score and mean squared score since then."""

    block: int
    time: float
    mean: float
    square: float


class History:
    """Cumulative sums of blocks, with the time each mark was made."""

    def __init__(self, features: int, rows: int) -> None:
        """
        Begin without blocks.

        Args:
            features: How many.
            rows: In each block.
        """
        self._rows = rows
        self.blocks = 0
        self.total = np.zeros((2, features))
        # Marks: before which block, when, and the totals then. Room for a chunk beyond the most.
        self.at: list[int] = []
        self.times: list[float] = []
        self.totals: list[Array] = []

    def add(self, sums: Array, squares: Array, times: Array) -> None:
        """Add blocks: "block feature" sums of scores and of squared scores, "block" mean unix seconds."""
        count = len(sums)
        path = np.empty((count + 1, *self.total.shape))
        path[0] = self.total
        path[1:, 0], path[1:, 1] = sums, squares
        np.cumsum(path, axis=0, out=path)
        self.at.extend(range(self.blocks, self.blocks + count))
        self.times.extend(times.tolist())
        self.totals.extend(path[:-1])
        self.total = path[-1]
        self.blocks += count
        while len(self.at) > MOST_MARKS:
            self._thin()

    def find_change(self, feature: int, *, squared: bool, factors: Array, costs: Array) -> Change:
        """
        Place the change of one feature.

        Args:
            feature: Which.
            squared: Whether the bets are on squared scores.
            factors: "bet", what a score is multiplied with.
            costs: "bet", what is taken off for each row.
        """
        then = np.stack([own[:, feature] for own in self.totals])
        rows = self._rows * (self.blocks - np.array(self.at))
        since = self.total[:, feature] - then
        won = since[:, int(squared), None] * factors - rows[:, None] * costs
        mark = int(won.max(axis=1).argmax())
        return Change(self.at[mark], self.times[mark], *(since[mark] / rows[mark]))

    def forget(self) -> None:
        """Forget what was before now."""
        self.at, self.times, self.totals = [], [], []

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        return {
            "blocks": self.blocks,
            "total": pack(self.total),
            "at": self.at,
            "times": self.times,
            "totals": pack(np.array(self.totals)),
        }

    def restore(self, value: Mapping[str, Any]) -> None:
        """
        Take what `to_json` gave.

        Raises:
            ValueError: It is of another number of features.
        """
        at, times = [int(own) for own in value["at"]], [float(own) for own in value["times"]]
        totals = unpack(value["totals"], np.zeros((len(at), *self.total.shape)))
        if len(at) != len(times) or len(at) > MOST_MARKS:
            raise ValueError(f"there are {len(at)} marks and {len(times)} times")
        self.blocks, self.total = int(value["blocks"]), unpack(value["total"], self.total)
        self.at, self.times, self.totals = at, times, list(totals)

    def _thin(self) -> None:
        """Drop every other mark of the older half."""
        half = len(self.at) // 2
        self.at = self.at[:half:2] + self.at[half:]
        self.times = self.times[:half:2] + self.times[half:]
        # What is kept must not keep the arrays it was cut from alive.
        self.totals = [own if own.base is None else own.copy() for own in self.totals[:half:2]] + self.totals[half:]


def pack(array: Array) -> str:
    """Give an array's bytes as base64."""
    return b64encode(np.ascontiguousarray(array).tobytes()).decode()


def unpack(text: str, like: Array) -> Array:
    """
    Read what `pack` wrote.

    Raises:
        ValueError: It is not as many numbers as ``like`` has.
    """
    return np.frombuffer(b64decode(text), like.dtype).reshape(like.shape).copy()
