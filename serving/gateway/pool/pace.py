"""How fast a version's replicas work off what waits for them: what admission and dispatch go by."""

from typing import Final

_WEIGHT: Final = 0.1  # of the newest batch
_LONGEST_SHARE: Final = 8.0  # one batch counts at most this many times the mean: a pause of the machine is no pace


class Pace:
    """
    Seconds per row between answers while something waits, all replicas of the version together; and of computing, a row and a batch.

    All are exponentially weighted means, 0 while nothing is known: then nothing is refused on their account.
    """

    __slots__ = ("_last", "_rows", "_seconds", "batch_seconds", "row_seconds")

    def __init__(self) -> None:
        """Know nothing."""
        self.row_seconds = 0.0
        self.batch_seconds = 0.0
        self._rows = self._seconds = 0.0  # that were computed, and how long that took, the last ten batches or so
        self._last = 0.0  # monotonic time of the last answer, while the replicas have been busy since

    def note(self, now: float, rows: int, seconds: float, *, busy: bool) -> None:
        """
        Learn from a batch.

        Args:
            now: Monotonic time in seconds.
            rows: Rows that were computed, as the queue counts them.
            seconds: How long that took.
            busy: Whether more waits, so that the time until the next answer says how fast the replicas are.
        """
        self.batch_seconds = _mix(self.batch_seconds, seconds)
        self._rows += rows - _WEIGHT * self._rows
        self._seconds += min(seconds, _LONGEST_SHARE * (self._seconds or seconds)) - _WEIGHT * self._seconds
        if self._last:
            self.row_seconds = _mix(self.row_seconds, (now - self._last) / rows)
        elif not self.row_seconds:
            self.row_seconds = seconds / rows
        self._last = now if busy else 0.0

    @property
    def compute_seconds(self) -> float:
        """How long a replica computes a row, in batches as they are."""
        return self._seconds / self._rows if self._rows else 0.0

    def wait_seconds(self, rows: int) -> float:
        """Give how long a request will wait for its answer behind so many rows, computed and waiting."""
        return rows * self.row_seconds + self.batch_seconds


def _mix(mean: float, value: float) -> float:
    return mean + _WEIGHT * (min(value, _LONGEST_SHARE * mean) - mean) if mean else value
