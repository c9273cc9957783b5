"""
What the hot path counts: plain integers and lists, owned by one event loop.

A labelled client library's counter costs 1.2 to 3.3 µs for each request, these 0.15; `lastgood.serving.gateway.meters.collector`
reads them when Prometheus asks.
"""

from array import array
from bisect import bisect_left
from typing import Final, Literal

import numpy as np

from lastgood.serving.gateway.route import Role

Outcome = Literal["ok", "failed", "invalid", "timeout", "refused", "bad_request", "disconnected"]
SECONDS_BOUNDS: Final[tuple[float, ...]] = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
COMPUTE_BOUNDS: Final[tuple[float, ...]] = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, *SECONDS_BOUNDS)
ROWS_BOUNDS: Final[tuple[float, ...]] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_RECENT = 4096  # computations that the p99 is taken of
_ENOUGH = 100  # fewer say nothing about a p99


class Histogram:
    """Counts by upper bound, the last one for everything above, and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Begin empty."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value; a bound includes its own value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulate(self) -> list[tuple[str, float]]:
        """Give Prometheus's buckets: upper bound as text, and how many values were not above it."""
        buckets, seen = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            seen += count
            buckets.append((bound, float(seen)))
        return buckets


class RoleMeter:
    """What one version did in one role."""

    __slots__ = ("batch_rows", "compute_seconds", "queue_seconds", "request_seconds", "requests")

    def __init__(self) -> None:
        """Begin empty."""
        self.requests: dict[tuple[str, Outcome], int] = {}  # by traffic and outcome
        self.request_seconds = Histogram(SECONDS_BOUNDS)
        self.queue_seconds = Histogram(SECONDS_BOUNDS)
        self.compute_seconds = Histogram(COMPUTE_BOUNDS)
        self.batch_rows = Histogram(ROWS_BOUNDS)

    def count(self, traffic: str, outcome: Outcome) -> None:
        """Count one request by what came of it."""
        key = (traffic, outcome)
        self.requests[key] = self.requests.get(key, 0) + 1


class VersionMeter:
    """What one version did, by role, and how often its replicas died."""

    __slots__ = ("_at", "_recent", "deaths", "roles")

    def __init__(self) -> None:
        """Begin empty."""
        self.roles: dict[Role, RoleMeter] = {}
        self.deaths = 0
        self._recent = array("d")  # compute seconds per row, a ring
        self._at = 0

    def role(self, role: Role) -> RoleMeter:
        """Give the meter of a role."""
        meter = self.roles.get(role)
        if meter is None:
            meter = self.roles[role] = RoleMeter()
        return meter

    def keep_seconds_per_row(self, seconds: float) -> None:
        """Remember how long a row took to compute."""
        if len(self._recent) < _RECENT:
            self._recent.append(seconds)
        else:
            self._recent[self._at] = seconds
            self._at = (self._at + 1) % _RECENT

    def forget_recent(self) -> None:
        """Let go of what only the p99 is taken of: it is most of what a meter takes."""
        self._recent, self._at = array("d"), 0

    def p99_seconds_per_row(self) -> float | None:
        """Give the 99th percentile of the last batches' compute time per row in seconds; None while there are under 100."""
        if len(self._recent) < _ENOUGH:
            return None
        return float(np.quantile(self._recent, 0.99))


class TrafficLabels:
    """Names as clients give them, of traffic or of its slices, few enough to be a metric's label."""

    __slots__ = ("_default", "_limit", "_names")

    def __init__(self, default: str, limit: int = 8) -> None:
        """Know the ``default``, which is also what no name is; ``limit`` names in all, whatever comes after is "other"."""
        self._default = default
        self._names: dict[bytes, str] = {default.encode(): default}
        self._limit = limit

    def label(self, header: bytes | None) -> str:
        """Give the label for a header's value."""
        if header is None:
            return self._default
        known = self._names.get(header)
        if known is not None:
            return known
        allowed = b"abcdefghijklmnopqrstuvwxyz0123456789_-"
        if not 0 < len(header) <= 32 or header.strip(allowed):
            return self._default
        if len(self._names) >= self._limit:
            return "other"
        return self._names.setdefault(header, header.decode("ascii"))
