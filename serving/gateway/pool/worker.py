"""One replica with what it has in its hands."""

import time

from lastgood.serving.backends.replica import Replica
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.pool.batch import Batch
from lastgood.serving.gateway.pool.pulse import Pulse


class Worker:
    """A ready replica, its free slots, and the batches in flight by number."""

    __slots__ = ("_free", "_limits", "_next", "answered_at", "in_flight", "pulse", "replica", "rows")

    def __init__(self, replica: Replica, limits: PoolLimits) -> None:
        """Take over a replica that is ready."""
        self._limits = limits
        self.replica = replica
        self.pulse = Pulse(replica, limits.hang_seconds)
        self.in_flight: dict[int, Batch] = {}
        self._free = list(range(len(replica.slots)))
        self._next = 0
        self.answered_at = 0.0  # monotonic time in seconds
        self.rows = 0  # in its hands, as the queue counts them

    def wait_seconds(self, now: float, row_seconds: float) -> float:
        """Give how long it will compute what it has in its hands, at that many seconds a row."""
        if not self.in_flight:
            return 0.0
        return max(0.0, self.rows * row_seconds - (now - self.began_at(next(iter(self.in_flight.values())))))

    def began_at(self, oldest: Batch) -> float:
        """Give when it began to compute the oldest batch in its hands, in monotonic seconds: after the answer before."""
        return max(oldest.run.dispatched, self.answered_at)

    def takes(self, *, exclusive: bool) -> bool:
        """Say whether another batch may be sent; an exclusive one shares the replica with no other."""
        if not self.replica.ready or not self._free:
            return False
        if not self.in_flight:
            return True
        return not exclusive and not any(batch.exclusive for batch in self.in_flight.values())

    def load(self, batch: Batch) -> int:
        """
        Write a batch into a free slot and give the bytes used.

        Raises:
            SlotError: It is larger than a slot may be.
            OSError: The host has no memory for it.
        """
        batch.slot = self._free[-1]
        return self.replica.slots[batch.slot].write(batch.tensors())

    def send(self, batch: Batch, used: int) -> None:
        """Hand the loaded batch over."""
        self._free.pop()
        self._next = (self._next + 1) & 0xFFFFFFFF
        self.in_flight[self._next] = batch
        self.rows += self._limits.weigh(batch.rows)
        self.replica.run(batch.slot, self._next, used)

    def finish(self, number: int) -> Batch:
        """Take a batch back; its slot may be written again once the arrays read from it are done with."""
        self.answered_at = time.monotonic()
        batch = self.in_flight.pop(number)
        self.rows -= self._limits.weigh(batch.rows)
        self._free.append(batch.slot)
        return batch
