"""
Requests that wait for a replica, and how they are joined into batches.

There is no timer: a request leaves at the end of the loop tick it came in while fewer than two batches are in flight, or at once
where the one before was alone too. So a lone request never waits, and batches grow by themselves under load.
"""

import math
from collections import deque
from collections.abc import Iterator
from typing import Final

from lastgood.serving.gateway.charges import Incident
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.pool.batch import Batch
from lastgood.serving.gateway.pool.pending import Part, Pending

_SHARE: Final = 0.8  # of the time that is left: how long a row takes is a mean
_BATCHES: Final = 4
_SCAN_ROWS: Final = 4  # how far to look for requests that fit, in multiples of the rows wanted


class Batcher:
    """The queue of one pool; it decides what is joined and does nothing else."""

    __slots__ = ("_late", "_limits", "_queue", "nbytes", "rows")

    def __init__(self, limits: PoolLimits) -> None:
        """Begin with an empty queue."""
        self._limits = limits
        self._queue: deque[Pending] = deque()
        self._late: list[Pending] = []
        # That wait, those of abandoned requests included; of a request that is a batch by itself, a batch's: its many rows take
        # nothing like as long as so many small requests, which is what the pace is mostly learnt from.
        self.rows = 0
        self.nbytes = 0  # of their inputs

    def __len__(self) -> int:
        """Count what waits, abandoned requests included."""
        return len(self._queue)

    def __iter__(self) -> Iterator[Pending]:
        """Go through what waits, the next one first."""
        return iter(self._queue)

    def put(self, pending: Pending) -> None:
        """Queue a request."""
        self._queue.append(pending)
        self._add(pending)

    def put_back_halves(self, pendings: list[Pending], incident: Incident) -> None:
        """Queue the requests of a batch that failed before all others, so that each half of them runs without the other."""
        half = (len(pendings) + 1) // 2
        for own in (pendings[:half], pendings[half:]):
            part = Part(incident)
            for pending in own:
                pending.part = part
        self.put_back(pendings)

    def put_back(self, pendings: list[Pending]) -> None:
        """Queue requests before all others, in their order."""
        self._queue.extendleft(reversed(pendings))
        self._count(pendings)

    def remove_all(self) -> list[Pending]:
        """Empty the queue and give what waited and is not finished."""
        waiting = [pending for pending in self._queue if not pending.finished]
        self.keep([])
        return waiting

    def keep(self, kept: list[Pending]) -> None:
        """Put these in the queue's place."""
        self._queue = deque(kept)
        self.rows = self.nbytes = 0
        self._count(kept)

    def _count(self, pendings: list[Pending]) -> None:
        for pending in pendings:
            self._add(pending)

    def _add(self, pending: Pending) -> None:
        self.rows += self._limits.weigh(pending.rows)
        self.nbytes += pending.nbytes

    def _drop(self) -> Pending:
        pending = self._queue.popleft()
        self._forget(pending)
        return pending

    def _forget(self, pending: Pending) -> None:
        self.rows -= self._limits.weigh(pending.rows)
        self.nbytes -= pending.nbytes

    def peek(self) -> Pending | None:
        """Give the next request without taking it; finished ones are dropped."""
        queue = self._queue
        while queue:
            if not queue[0].finished:
                return queue[0]
            self._drop()
        return None

    def take_late(self) -> list[Pending]:
        """Give what `take` found to be too late since the last time."""
        late, self._late = self._late, []
        return late

    def take(self, begins: float = -math.inf, row_seconds: float = 0.0, *, idle: bool = False) -> Batch | None:
        """
        Give the next batch: the oldest request and those that fit to it, in the order they came, as many as will be in time.

        Args:
            begins: When a replica will begin with the batch, monotonic seconds; what must be answered earlier is not worth computing,
                see `take_late`.
            row_seconds: How long it computes a row, 0 where that is not known.
            idle: Whether it has nothing else to do: then the oldest request is tried in any case that is not past, for a version that
                was slow once might be fast by now, and nobody would ever know.
        """
        while (first := self.peek()) is not None and first.deadline < begins + (
            0 if idle else self._limits.weigh(first.rows)
        ) * row_seconds:
            self._late.append(self._drop())
        if first is None:
            return None
        queue = self._queue
        self._drop()
        limit = self._limit_rows(first, begins, row_seconds)
        if first.part is not None and not first.retried:
            return Batch([first, *self._take_part(first.part)])
        if first.key is None or first.retried or first.rows >= limit or not queue:
            return Batch([first])
        taken, skipped = [first], []
        key, rows, nbytes = first.key, first.rows, first.nbytes
        rest = self._limits.batch_bytes
        looks = self._limits.batch_rows * _SCAN_ROWS
        while queue and rows < limit and looks:
            looks -= 1
            pending = queue.popleft()
            if pending.finished:
                self._forget(pending)
            elif pending.deadline < begins + self._limits.weigh(pending.rows) * row_seconds:
                self._forget(pending)
                self._late.append(pending)
            elif (
                pending.key == key
                and rows + pending.rows <= limit
                and nbytes + pending.nbytes <= rest
                and pending.part is None
                and not pending.retried
            ):
                taken.append(pending)
                rows += pending.rows
                nbytes += pending.nbytes
            else:
                skipped.append(pending)
        if skipped:
            queue.extendleft(reversed(skipped))
        self.rows -= rows - first.rows
        self.nbytes -= nbytes - first.nbytes
        return Batch(taken)

    def _limit_rows(self, first: Pending, begins: float, row_seconds: float) -> int:
        """
        Say how many rows a batch may have.

        So many that the oldest request is in time; and that computing takes a quarter of the deadline at most, for whoever comes now waits
        for the batch that is computed, the one that is ready, and its own.
        """
        limit = self._limits.batch_rows
        if not row_seconds:
            return limit
        seconds = min(_SHARE * (first.deadline - begins), self._limits.deadline_seconds / _BATCHES)
        return limit if seconds > limit * row_seconds else max(1, int(seconds / row_seconds))

    def _take_part(self, part: Part) -> Iterator[Pending]:
        # They were put back together and nothing is ever put between them.
        while self._queue and self._queue[0].part is part and not self._queue[0].retried:
            pending = self._drop()
            if not pending.finished:
                yield pending
