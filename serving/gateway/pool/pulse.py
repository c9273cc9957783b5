"""
Whether a replica that holds a batch is alive, long before its request's deadline says so.

Its heart beats beside the model's call, so a batch of many seconds is no reason to end it. What is:

- **It is stopped** (state T of its process) and did not beat since the last look: at once.
- **It did not beat for `hang_seconds`** and no thread of it can run: stuck in code that keeps the interpreter, or frozen. A thread
  that can run computes or waits for a core, which on a loaded machine takes as long as it takes: the deadline decides, as it does for
  a model that waits for ever and lets the heart beat.

A gateway that was itself not scheduled must not take its own absence for the replica's silence: between two looks no more than twice
the time counts that should have been there. Where the process cannot be seen (the gateway in a container of its own), the heart
alone decides.
"""

from typing import Final

from lastgood.serving.backends.replica import Replica
from lastgood.serving.backends.states import STOPPED, read_states

LOOK_SECONDS: Final = 0.1  # twice a beat, so that at each look there should be a new one


class Pulse:
    """What the last looks at one replica saw."""

    __slots__ = ("_beats", "_hang_seconds", "_looked", "_replica", "_silent_seconds")

    def __init__(self, replica: Replica, hang_seconds: float) -> None:
        """Begin; the heart counts as beating."""
        self._replica = replica
        self._hang_seconds = hang_seconds
        self._beats: int | None = None
        self._silent_seconds = 0.0
        self._looked = 0.0  # loop time

    def rest(self, now: float) -> None:
        """Take note that the replica holds nothing; silence counts from ``now`` on, in seconds of the loop."""
        self._silent_seconds = 0.0
        self._looked = now

    def look(self, now: float) -> str | None:
        """
        Look at a replica that holds a batch; say what it is when it has to be ended, None while it is well or nobody can tell.

        Args:
            now: Seconds of the loop.
        """
        beats, before = self._replica.beats(), self._beats
        self._beats = beats
        passed, self._looked = now - self._looked, now
        if beats is None or beats != before:
            self._silent_seconds = 0.0
            return None
        self._silent_seconds += min(passed, 2 * LOOK_SECONDS)
        states = read_states(self._replica.pid)
        if states and states <= STOPPED:
            return "was stopped while it held a batch, and was ended"
        if self._silent_seconds < self._hang_seconds or "R" in states:
            return None
        return f"gave no sign of life for {self._silent_seconds:.1f} s while it held a batch, and was ended"
