"""What both clients of the data plane remember, and how long an answer of theirs may take."""

import time

from lastgood.serving.client import calls
from lastgood.serving.client.retries import RetryBudget, RetryPolicy, Tries
from lastgood.settings import Settings


class Asking:
    """The part of a client that is the same with and without an event loop."""

    def __init__(self, settings: Settings, seconds: float, retries: RetryPolicy) -> None:
        """Remember the address, how long an answer may take where a call does not say, and when to try again."""
        self._url = settings.rest_url
        self._seconds = calls.check_seconds(seconds)
        self._policy, self._budget = retries, RetryBudget(retries)
        self._binary: bool | None = None  # whether the server takes binary tensors, once it was asked

    def _begin(self, seconds: float | None, policy: RetryPolicy | None = None) -> Tries:
        allowed = self._seconds if seconds is None else calls.check_seconds(seconds)
        return Tries(policy or self._policy, self._budget, time.monotonic() + allowed)
