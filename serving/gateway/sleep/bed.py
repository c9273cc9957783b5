"""Whether one version sleeps, and what whoever asks is told where it could not be woken."""

import math
import time
from typing import Final

from lastgood.serving.gateway.errors import BusyError

OVERSLEPT: Final = "it sleeps and could not be woken in time; try again"


class Bed:
    """
    One version's sleep, as its requests see it; a version begins awake.

    Attributes:
        asleep: It has no replica because nobody asked for it.
        left_at: Monotonic time in seconds at which it was last up; infinite while it sleeps. What came before waited for that.
        refusal: Why it could not be woken, until it is up; None where nothing went wrong.
        failed: Whether that was its own fault, and not want of room.
    """

    __slots__ = ("_retry_at", "asleep", "failed", "left_at", "refusal")

    def __init__(self) -> None:
        """Begin awake."""
        self.asleep = False
        self.left_at = -math.inf
        self.refusal: str | None = None
        self.failed = False
        self._retry_at = 0.0

    def enter(self) -> None:
        """Take note that it sleeps from now on."""
        self.asleep = True
        self.left_at = math.inf

    def leave(self) -> None:
        """Take note that it is up, if it was not."""
        if self.asleep:
            self.asleep = self.failed = False
            self.left_at = time.monotonic()
            self.refusal = None

    def refuse(self, why: str, seconds: float, *, failed: bool) -> None:
        """
        Take note that it could not be woken; nobody is let in for that many seconds.

        Args:
            why: A sentence.
            seconds: Until the next request may try.
            failed: Whether its bytes or its replicas are to blame.
        """
        self.refusal, self.failed = why, failed
        self._retry_at = time.monotonic() + seconds

    def check(self) -> None:
        """
        Let a request in that may wake it.

        Raises:
            BusyError: It could not be woken a moment ago.
        """
        left = self._retry_at - time.monotonic()
        if left > 0 and self.refusal is not None:
            raise BusyError(self.refusal, math.ceil(left))
