"""
Whose turn it is to have requests taken, among connections that have several at once.

A connection that sends many without waiting for answers would have all of them taken in one go, and with a few dozen such connections
one tick of the loop takes thousands: meanwhile nobody else is heard, no answer is handed out, and the more the clients send in that
time, the longer the next tick is. So whatever comes first on a connection is taken at once, and what comes behind it only while the tick
has taken few of those; the rest waits for the next tick, in which each connection has its first one again.
"""

import asyncio


class Turns:
    """Counts what is taken in one tick; belongs to one event loop."""

    __slots__ = ("_each", "_left")

    def __init__(self, each: int) -> None:
        """Let so many be taken in each tick."""
        self._each = each
        self._left = -1  # nothing was asked for in this tick

    def take(self) -> bool:
        """Say whether one more may be taken in this tick."""
        if self._left < 0:
            self._left = self._each
            asyncio.get_running_loop().call_soon(self._end_tick)
        if self._left == 0:
            return False
        self._left -= 1
        return True

    def _end_tick(self) -> None:
        self._left = -1
