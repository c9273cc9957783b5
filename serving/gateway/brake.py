"""
Refusals that are given a moment later than they are decided.

A client that asks again at once whenever it is refused, times a few hundred, would keep the gateway busy with refusing, and
those that are served would get less. Whoever is refused for want of room waits a moment for the answer: it costs nothing here, and
bounds how often one connection can ask. A client that waits as Retry-After says loses nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

HELD_SECONDS: Final = 0.1
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
        self._held.append((time.monotonic() + HELD_SECONDS, give))
        if len(self._held) > MOST_HELD:
            self._held.popleft()[1]()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HELD_SECONDS, self._release)

    def _release(self) -> None:
        now = time.monotonic()
        while self._held and self._held[0][0] <= now:
            self._held.popleft()[1]()
        rest = self._held[0][0] - now if self._held else 0.0
        self._timer = asyncio.get_running_loop().call_later(rest, self._release) if self._held else None
