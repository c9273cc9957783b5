"""
What is charged to whom.

A request is charged to the lane it was dealt, wherever it was answered in the end: so the coin decides alone whose
evidence it is. One incident is one event: a batch that fails charges its lane once, however many requests it held,
and so do the single runs that follow from it.
"""

import asyncio
from collections.abc import Iterable

from lastgood.serving.gateway.route import Kind, Lane


class Incident:
    """Remembers what was charged already for the same cause."""

    __slots__ = ("_charged",)

    def __init__(self) -> None:
        """Nothing happened yet."""
        self._charged: list[tuple[Lane, Kind]] | None = None

    def charge(self, lane: Lane, kind: Kind) -> None:
        """
        Count a bad event, unless this incident counted it for the lane before, and tell who watches the lane.

        The watcher is called in the next loop tick: what it does, or raises, cannot stop the other answers of a batch.
        """
        if self._charged is None:
            self._charged = []
        # By identity: lanes compare by value, and two steps of a rollout may have equal ones.
        elif any(charged is lane and what == kind for charged, what in self._charged):
            return
        self._charged.append((lane, kind))
        setattr(lane.tally, kind, getattr(lane.tally, kind) + 1)
        if lane.on_bad is not None:
            asyncio.get_running_loop().call_soon(lane.on_bad, lane, kind)


def find_lanes(lanes: Iterable[Lane]) -> list[Lane]:
    """Give each lane once, in order."""
    found = {id(lane): lane for lane in lanes}  # by identity: lanes compare by value, and two steps of a rollout may have equal ones
    return list(found.values())
