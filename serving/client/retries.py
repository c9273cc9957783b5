"""
When a request is tried again, as values without I/O: both clients ask here, and only wait for themselves.

A request is tried again if it was refused with 503, or if the connection was refused or ended before an answer began. The
wait grows and is drawn at random, so that clients that failed together do not come back together; it is never shorter than
the gateway's Retry-After. A budget for all requests of a client keeps tries from becoming the load that a gateway in trouble
suffers from.

Source: Brooker, "Exponential Backoff And Jitter" (full jitter); gRPC proposal A6, "Throttling Retry Attempts" (the budget).
"""

import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from lastgood.durations import tell_seconds
from lastgood.errors import UsageError
from lastgood.serving.client.errors import DeadlineError, GatewayAwayError

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    How often and how soon a request is tried again.

    Attributes:
        attempts: Of one request in all, 1 or more; 1 never tries again.
        first_seconds: The longest wait before the second attempt; doubled for each one after.
        most_seconds: The longest wait that is drawn; what Retry-After asks for comes on top.
        budget: Attempts beyond the first that a client may make in a row, over all its requests.
        earned: How much of the budget each request gives back: 0.1 is one more attempt for ten requests.
    """

    attempts: int = 4
    first_seconds: float = 0.1
    most_seconds: float = 2.0
    budget: float = 10.0
    earned: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what is no policy."""
        if self.attempts < 1 or not 0 <= self.first_seconds <= self.most_seconds or self.budget < 0 or self.earned < 0:
            raise UsageError(f"{self} cannot be; expected 1 attempt or more, and numbers from 0 with first_seconds <= most_seconds.")


RETRIES: Final = RetryPolicy()
ONCE: Final = RetryPolicy(attempts=1)


class RetryBudget:
    """What a client may still try again; may be shared by threads."""

    def __init__(self, policy: RetryPolicy) -> None:
        """Begin with the whole budget."""
        self._most, self._earned = policy.budget, policy.earned
        self._left = policy.budget
        self._lock = threading.Lock()

    def earn(self) -> None:
        """Note one more request."""
        with self._lock:
            self._left = min(self._most, self._left + self._earned)

    def spend(self) -> bool:
        """Take one attempt out of the budget; say whether there was one."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


class Tries:
    """The attempts of one request until its deadline."""

    def __init__(self, policy: RetryPolicy, budget: RetryBudget, until: float, *, clock: Clock = time.monotonic) -> None:
        """
        Begin the first one.

        Args:
            policy: How often and how soon.
            budget: Of the client.
            until: Deadline, on the clock.
            clock: Seconds that only grow.
        """
        self._policy, self._budget, self._clock = policy, budget, clock
        self.began, self.until = clock(), until
        self.count = 1
        budget.earn()

    def elapsed(self) -> float:
        """Give the seconds since the first attempt began."""
        return self._clock() - self.began

    def remaining(self) -> float:
        """
        Give the seconds until the deadline.

        Raises:
            DeadlineError: There are none.
        """
        left = self.until - self._clock()
        if left <= 0:
            raise self.expire()
        return left

    def wait_after(self, problem: httpx.TransportError | httpx.Response) -> float | None:
        """
        Give the seconds to wait until the next attempt, None where there is none; counts it as begun.

        Args:
            problem: What came of the last one: no answer, or a refusal.
        """
        least = _least_wait(problem)
        if least is None or self.count >= self._policy.attempts:
            return None
        longest = min(self._policy.most_seconds, self._policy.first_seconds * 2 ** min(self.count - 1, 30))
        wait = least + random.uniform(0, longest)  # noqa: S311  # spreads clients, hides nothing
        # An attempt that cannot begin before the deadline is no reason to make the caller wait until then.
        if self._clock() + wait >= self.until or not self._budget.spend():
            return None
        self.count += 1
        return wait

    def tell(self) -> str:
        """Say how often it was tried, as a sentence behind another one; nothing for the first attempt."""
        return f" Tried {self.count} times in {self.elapsed():.1f} s." if self.count > 1 else ""

    def expire(self) -> DeadlineError:
        """Give the error for a deadline that is over."""
        allowed = tell_seconds(self.until - self.began)
        return DeadlineError(f"No answer within {allowed}.{self.tell()} Give it more time, or see: lastgood status.")

    def give_up(self, url: str, exc: httpx.TransportError) -> GatewayAwayError:
        """Give the error for a gateway that does not answer, or not in time."""
        if isinstance(exc, httpx.TimeoutException):
            return self.expire()
        return GatewayAwayError(f"No answer from {url} ({exc!r}).{self.tell()} Start a gateway: lastgood up.")


def read_retry_after(value: str, now: float) -> float:
    """
    Give the seconds that a Retry-After header asks to wait for, 0 where it says nothing that can be read.

    Args:
        value: Seconds, or a date of HTTP.
        now: Unix time.
    """
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def _least_wait(problem: httpx.TransportError | httpx.Response) -> float | None:
    """Give the seconds to wait at least, None where another attempt would not help or might be a second answer."""
    if isinstance(problem, httpx.Response):
        return read_retry_after(problem.headers.get("retry-after", ""), time.time()) if problem.status_code == 503 else None
    if not isinstance(problem, httpx.NetworkError | httpx.RemoteProtocolError) or _is_distrust(problem):
        return None
    return 0.0


def _is_distrust(exc: BaseException | None) -> bool:
    """Say whether a connection failed for its certificate, which is the same the next time."""
    while exc is not None:
        if isinstance(exc, ssl.SSLCertVerificationError):
            return True
        exc = exc.__cause__ or exc.__context__
    return False
