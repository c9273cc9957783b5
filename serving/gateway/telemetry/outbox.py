"""From the event loop to a thread that may wait for a disk or a network: a bounded queue, and a count of what was lost."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from lastgood.serving.gateway.telemetry.record import Record

log = logging.getLogger(__name__)
LIMIT: Final = 4096  # records that may wait
EVERY_SECONDS: Final = 0.5
# A thread that computes holds the loop up, for 5 ms at worst: after so many records it is to give it its turn.
TURN: Final = 64


class Outbox:
    """Hands records on, in their order; what does not fit is dropped at once."""

    def __init__(
        self,
        name: str,
        take: Callable[[Sequence[Record]], int],
        *,
        limit: int = LIMIT,
        most: int = TURN,
        every: float = EVERY_SECONDS,
    ) -> None:
        """
        Start a thread.

        Args:
            name: Of the thread, and in the log.
            take: Called there with some of the records; gives how many of them were lost.
            limit: How many records may wait.
            most: How many are taken at once.
            every: Seconds between two looks at them.
        """
        self._take = take
        self._limit = limit
        self._most = most
        self._every = every
        self._waiting: deque[Record] = deque()
        self._dropped = 0  # by the loop
        self._lost = 0  # by the thread
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"telemetry-{name}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many records were lost so far."""
        return self._dropped + self._lost

    def put(self, record: Record) -> None:
        """Leave a record, or drop it; does not wait."""
        if len(self._waiting) >= self._limit or self._closing.is_set():
            self._dropped += 1
        else:
            self._waiting.append(record)

    def close(self, seconds: float) -> None:
        """Let the thread hand on what waits, for so many seconds; what is left is dropped."""
        self._closing.set()
        self._thread.join(seconds)
        if left := len(self._waiting):
            log.warning("%s: %d records were not written in %g s and are lost", self._thread.name, left, seconds)
            self._waiting.clear()
            self._dropped += left

    def _run(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(self._every)
            while self._waiting:
                batch = self._pop()
                try:
                    self._lost += self._take(batch)
                except Exception:
                    self._lost += len(batch)
                    log.exception("%s: %d records are lost", self._thread.name, len(batch))

    def _pop(self) -> list[Record]:
        waiting, batch = self._waiting, list[Record]()
        try:
            while len(batch) < self._most:
                batch.append(waiting.popleft())
        except IndexError:  # empty, or emptied by `close` meanwhile
            pass
        return batch
