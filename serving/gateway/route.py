"""
Who gets the next request, and what came of the last ones.

These are the gateway's hot data structures: plain integers without locks, owned by one event loop. The conductor
builds a new `Route` for every change and puts it in place with one assignment; requests already assigned keep the
`Lane` they were assigned to, so what they do is charged to the step and role they were dealt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np

from lastgood.registry.content import Content
from lastgood.serving.gateway.limits import PoolLimits

if TYPE_CHECKING:
    from lastgood.serving.gateway.inference import Desk

Role = Literal["candidate", "baseline", "live", "shadow"]  # live: no rollout is running; shadow: copies, whose answers nobody gets
Kind = Literal["failed", "invalid", "slow"]
MASK: Final = (1 << 64) - 1
_BLOCK: Final = 256
SHADOW_QUEUE: Final = 64  # copies that may wait; a shadow that is slower than the traffic gets fewer of them


class Tally:
    """
    What one role did during one step of a rollout.

    An event is an incident: a batch that fails is one, however many requests it held.
    """

    __slots__ = ("batches", "failed", "invalid", "requests", "slow")

    def __init__(self, requests: int = 0, batches: int = 0, failed: int = 0, invalid: int = 0, slow: int = 0) -> None:
        """Start from counts that were persisted, or from nothing."""
        self.requests = requests  # dispatched; refusals and 4xx never count
        self.batches = batches
        self.failed = failed
        self.invalid = invalid  # a floating-point output that is not finite, or a shape that was not promised
        self.slow = slow

    @classmethod
    def of(cls, value: Mapping[str, int]) -> "Tally":
        """Start from what `to_json` gave; what else is there is not looked at."""
        return cls(value["requests"], value["batches"], value["failed"], value["invalid"], value["slow"])

    def to_json(self) -> dict[str, int]:
        """Give the counts by name."""
        return {"requests": self.requests, "batches": self.batches, "failed": self.failed, "invalid": self.invalid, "slow": self.slow}


class Pool(Protocol):
    """The replicas of one version, as a route sees them."""

    model: str
    number: int
    digest: str
    content: Content
    limits: PoolLimits

    @property
    def ready(self) -> bool:
        """Whether a replica verified the bytes, was warmed, and gave the golden answers."""
        ...

    @property
    def available(self) -> bool:
        """Whether it answers: it is ready, or sleeps and can be woken."""
        ...

    @property
    def inviting(self) -> bool:
        """Whether a request is likely to be answered: it is up, or sleeps and nothing has kept it from being woken."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that wait for a replica."""
        ...

    def check_room(self, seconds: float | None = None) -> None:
        """Let one more request in, or raise an UnavailableError."""
        ...

    def submit(self, pending: Any) -> None:
        """Queue one request; its answer or its error comes by callback."""
        ...


class Coin:
    """
    An independent coin per request from a counter-based generator, so that a receipt's seed repeats every toss.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014 (SplitMix64).
    """

    __slots__ = ("_block", "_left", "counter", "seed")

    def __init__(self, seed: int, counter: int = 0) -> None:
        """Start at toss ``counter`` of the sequence that the 64-bit ``seed`` names."""
        self.seed = seed & MASK
        self.counter = counter
        self._block: list[int] = []  # the next tosses, the last one first: some hundred at a time cost a tenth of one by one
        self._left = 0

    def toss(self) -> int:
        """Give the next integer, uniform in [0, 2**64)."""
        if not self._left:
            self._block = _toss_many(self.seed, self.counter)
            self._left = len(self._block)
        self.counter += 1
        self._left -= 1
        return self._block[self._left]


def _toss_many(seed: int, counter: int) -> list[int]:
    """Give the tosses after ``counter``, the last one first."""
    # Whole numbers of 64 bits wrap around in numpy, which is the generator's arithmetic.
    z = np.uint64(seed) + np.arange(counter + _BLOCK, counter, -1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    tosses: list[int] = (z ^ (z >> np.uint64(31))).tolist()
    return tosses


@dataclass(slots=True)
class Lane:
    """Where a request goes and whom its outcome is charged to."""

    pool: Pool
    role: Role
    tally: Tally
    slow_limit_seconds: float  # compute per row above this is slow; infinite where nothing is known to compare with
    on_bad: Callable[["Lane", Kind], None] | None = None  # called after the tally has counted it
    fallback: "Lane | None" = None  # where a candidate's request goes when its replica died: the baseline's lane
    rollout: str = ""  # whose step this is, "" without one
    step: int = 0
    copies_to: "Lane | None" = None  # a shadow that gets a copy of each request of this lane
    desk: "Desk | None" = None  # what the reception keeps here: who writes and counts this lane's answers


@dataclass(slots=True)
class Route:
    """One model's way through the gateway, at one generation."""

    model: str
    generation: int
    main: Lane  # the baseline during a rollout, else the live version; the candidate where there is no baseline
    candidate: Lane | None  # or, while the candidate is a shadow, the baseline's lane whose requests are copied
    threshold: int  # a toss below this goes to the candidate: share times 2**64
    coin: Coin

    def assign(self) -> Lane:
        """Toss for one request; a candidate that is not ready gets none."""
        candidate = self.candidate
        if candidate is not None and self.coin.toss() < self.threshold and candidate.pool.ready:
            shadow = candidate.copies_to
            if shadow is None or (shadow.pool.ready and shadow.pool.waiting < SHADOW_QUEUE):
                return candidate
        return self.main
