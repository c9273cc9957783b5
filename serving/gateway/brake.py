"""
Refusals that are given a moment later than they are decided.

A client that asks again at once whenever it is refused, times a few hundred, would keep the gateway busy with refusing, and
those that are served would get less. Whoever is refused for want of room waits a moment for the answer, the longer the more are
refused: it costs nothing here, and bounds how many have to be refused in a second. No wait is longer than the shortest
Retry-After, so a client that heeds it loses nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

SHORTEST_SECONDS: Final = 0.1
LONGEST_SECONDS: Final = 1.0
PER_SECOND: Final = 1000  # refusals that are given, as long as no wait becomes longer than that
MOST_HELD: Final = 16_384  # beyond, the oldest go at once


class Brake:
    """Calls functions a moment later, in their order, with one timer for all; belongs to one event loop."""

    __slots__ = ("_held", "_timer")

    def __init__(self) -> None:
        """Hold nothing."""
        self._held: deque[tuple[float, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Count what is held."""
        return len(self._held)

    def hold(self, give: Callable[[], None]) -> None:
        """Call ``give`` a moment later."""
        held = self._held
        due = time.monotonic() + min(LONGEST_SECONDS, max(SHORTEST_SECONDS, len(held) / PER_SECOND))
        held.append((max(due, held[-1][0]) if held else due, give))  # whoever came first goes first
        if len(held) > MOST_HELD:
            held.popleft()[1]()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SHORTEST_SECONDS, self._release)

    def _release(self) -> None:
        now = time.monotonic()
        while self._held and self._held[0][0] <= now:
            self._held.popleft()[1]()
        rest = self._held[0][0] - now if self._held else 0.0
        self._timer = asyncio.get_running_loop().call_later(rest, self._release) if self._held else None
