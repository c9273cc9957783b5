"""
An event loop that does not fall asleep for less time than waking it up takes.

Where requests come one after the other, a process that sleeps between them is woken for each, and in a virtual machine that takes as
long as answering does. While they come in quick succession, the loop looks for the next one instead, for a moment at most; everything
else is seen meanwhile, too. At a slower pace it sleeps, so that an idle gateway takes nothing. Linux does the same in its
idle loop where a guest may poll.

Source: Linux kernel documentation, "Guest halt polling".
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Final

_WEIGHT: Final = 0.125  # of the newest pause between requests
_LONGEST: Final = 8.0  # one pause counts at most this many times the limit
_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


class Wakefulness:
    """Keeps one event loop awake for a while after each request, as long as the next ones come within that."""

    __slots__ = ("_awake", "_last", "_limit", "_pause", "_until")

    def __init__(self, limit_seconds: float) -> None:
        """Stay awake for so long at most, 0 is never; belongs to one event loop."""
        self._limit = limit_seconds
        self._pause = _LONGEST * limit_seconds  # mean seconds between requests
        self._last = 0.0
        self._until = 0.0
        self._awake = False

    def note(self, now: float) -> None:
        """Take note of a request that came at a monotonic time in seconds."""
        limit = self._limit
        self._pause += _WEIGHT * (min(now - self._last, _LONGEST * limit) - self._pause)
        self._last = now
        if self._pause >= limit:
            return
        self._until = now + limit
        if not self._awake:
            self._awake = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        # Whoever is called soon keeps the loop from sleeping; between two calls it looks at every socket.
        if time.monotonic() < self._until:
            asyncio.get_running_loop().call_soon(self._look)
        else:
            self._awake = False


def has_cores_to_spare() -> bool:
    """Say whether this process may use two cores or more: with one, staying awake would take the replica's time."""
    try:
        quota, period = _QUOTA.read_text("ascii").split()
        limit = float("inf") if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        limit = float("inf")
    return min(limit, len(os.sched_getaffinity(0))) >= 2
