"""Whether one more request is taken for a version, asked before its body is decoded."""

import math
from collections.abc import Callable
from typing import Final

from lastgood.serving.gateway.errors import BusyError
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.pool.batcher import Batcher
from lastgood.serving.gateway.pool.pace import Pace

_LONGEST_RETRY_SECONDS: Final = 60


class Admission:
    """The limits of one version's queue, and what is known of how fast it is worked off."""

    __slots__ = ("_batcher", "_count_computed", "_limits", "_pace", "_title")

    def __init__(self, title: str, limits: PoolLimits, batcher: Batcher, pace: Pace, count_computed: Callable[[], int]) -> None:
        """
        Watch over a queue.

        Args:
            title: What messages call the version.
            limits: Of the queue.
            batcher: The queue.
            pace: How fast it is worked off.
            count_computed: Gives the rows that replicas have in their hands.
        """
        self._title = title
        self._count_computed = count_computed
        self._limits = limits
        self._batcher = batcher
        self._pace = pace

    def check(self) -> None:
        """
        Let a request in.

        Raises:
            BusyError: The queue is full by number or bytes, or its end would be reached after the deadline.
        """
        batcher, limits = self._batcher, self._limits
        waiting = len(batcher)
        if not waiting:
            return
        if waiting >= limits.queue_requests:
            raise self._refuse(f"has {waiting} requests waiting, the limit")
        if batcher.nbytes >= limits.queue_bytes:
            raise self._refuse(f"has {batcher.nbytes} bytes of inputs waiting; the limit is {limits.queue_bytes}")
        self.check_time(limits.deadline_seconds)

    def check_time(self, seconds: float) -> None:
        """
        Let a request in that must be answered within so many seconds.

        Raises:
            BusyError: It would be answered later.
        """
        rows = self._batcher.rows + self._count_computed()
        if not rows:
            return  # else a version that was slow once would never be asked again
        wait = self._pace.wait_seconds(rows)
        if wait > seconds:
            raise self._refuse(f"would answer in about {wait:.3g} s, for {len(self._batcher)} requests wait; {seconds:g} s are allowed")

    def _refuse(self, why: str) -> BusyError:
        wait = self._pace.wait_seconds(self._batcher.rows + self._count_computed())
        return BusyError(f"{self._title} {why}; try again.", min(_LONGEST_RETRY_SECONDS, max(1, math.ceil(wait / 2))))
