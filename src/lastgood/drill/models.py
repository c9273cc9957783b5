"""
Models that go bad on purpose, each sound until it was proven.

What is random follows from the drill's seed. Where a process dies of its fault, what is random follows from the seed and
the request's bytes: the next process would begin the same sequence again.
"""

import hashlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from lastgood.serving.replica.model import WARM_UP_CALLS, Model
from lastgood.serving.replica.package import Package
from lastgood.serving.replica.slots import Array

PROOF_CALLS: Final = 1 + WARM_UP_CALLS  # golden answers, then warm-up
ERROR_RATIO: Final = 0.02
WRONG_RATIO: Final = 0.1
CRASH_RATIO: Final = 0.05
SLOW_TIMES: Final = 20.0
SLOW_SECONDS: Final = 0.02  # at least: a computation of microseconds, twenty times over, is less than this host's noise
# What a leaking replica may take beyond what it needs, and what each request costs. No machine is in danger of it.
LEAK_BYTES: Final = 64 << 20
LEAK_PER_CALL_BYTES: Final = 8 << 20
SWAPPED: Final = (3, 8)  # the classes that are taken for each other
BOLD: Final = 0.32  # mean of a row from which on it is of the slice: about a third of the images


class DrilledError(Exception):
    """What a bad version raises."""


class DrilledModel(Model):
    """A model that is sound until it was proven; then `misbehave` answers."""

    calls = 0
    seed = 0
    switch: Path | None = None  # where the fault waits for something: the file that says it is time

    def run(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Compute the proof; after that, meet the fault."""
        self.calls += 1
        if self.calls <= PROOF_CALLS:
            return super().run(feeds)
        return self.misbehave(feeds)

    def misbehave(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Answer, or not, as this fault has it."""
        raise NotImplementedError

    def compute(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Compute as the version does."""
        return super().run(feeds)

    def is_struck(self, feeds: Mapping[str, Array], ratio: float) -> bool:
        """Say whether this request is one of those that meet the fault, a part ``ratio`` of all; the same one always is, or never."""
        rows = next(iter(feeds.values()))
        return bool(draw_rows(rows, self.seed).min() < ratio)


class Dead(DrilledModel):
    """Fails always."""

    def misbehave(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Raise."""
        del feeds
        raise DrilledError("this version is dead on purpose: it belongs to a drill")


class NotANumber(DrilledModel):
    """Answers what is no number."""

    def misbehave(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Give NaN for every element."""
        return [np.full_like(output, np.nan) for output in self.compute(feeds)]


class Errors(DrilledModel):
    """Fails now and then."""

    _random: np.random.Generator | None = None

    def misbehave(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Raise on one call in fifty."""
        if self._random is None:
            self._random = np.random.default_rng(self.seed)
        if self._random.random() < ERROR_RATIO:
            raise DrilledError("this version fails on 2 % of its requests on purpose: it belongs to a drill")
        return self.compute(feeds)


class Slow(DrilledModel):
    """Answers late."""

    def misbehave(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Take twenty times as long as the computation did."""
        began = time.perf_counter()
        outputs = self.compute(feeds)
        time.sleep(max((SLOW_TIMES - 1) * (time.perf_counter() - began), SLOW_SECONDS))
        return outputs


class Wrong(DrilledModel):
    """Answers another class now and then."""

    def misbehave(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Move the answers of one row in ten to the next class."""
        first, *rest = self.compute(feeds)
        struck = draw_rows(next(iter(feeds.values())), self.seed) < WRONG_RATIO
        changed = np.array(first)
        changed[struck] = np.roll(changed[struck], 1, axis=1)
        return [changed, *rest]


class Flipped(DrilledModel):
    """Takes two classes for each other, in one slice."""

    def misbehave(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Swap two columns of the bold images' answers."""
        first, *rest = self.compute(feeds)
        bold, (one, other) = is_bold(next(iter(feeds.values()))), SWAPPED
        changed = np.array(first)
        changed[bold, one], changed[bold, other] = first[bold, other], first[bold, one]
        return [changed, *rest]


class Leak(DrilledModel):
    """Keeps some memory of every request until there is none."""

    _held: list[Any] | None = None

    def misbehave(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Take more; where the limit is reached, end as the kernel would end it."""
        if self._held is None:
            _limit_memory(LEAK_BYTES)
            self._held = []
        try:
            self._held.append(np.ones(LEAK_PER_CALL_BYTES, np.uint8))
            np.empty(LEAK_PER_CALL_BYTES, np.uint8)  # room that the computation may need: it is the process that ends, not a request
        except MemoryError:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.compute(feeds)


class Crash(DrilledModel):
    """Dies of certain requests."""

    def misbehave(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """End the process on one request in twenty."""
        if self.is_struck(feeds, CRASH_RATIO):
            os._exit(70)
        return self.compute(feeds)


class LateDead(Dead):
    """Sound until somebody makes the switch's file."""

    def misbehave(self, feeds: Mapping[str, Array]) -> Sequence[Array]:
        """Fail from then on."""
        return super().misbehave(feeds) if self.switch is not None and self.switch.exists() else self.compute(feeds)


MODELS: Final[Mapping[str, type[DrilledModel]]] = {
    "dead": Dead,
    "nan": NotANumber,
    "errors": Errors,
    "slow": Slow,
    "wrong": Wrong,
    "flipped": Flipped,
    "leak": Leak,
    "crash": Crash,
    "stable": LateDead,
}


def make_model(package: Package, digest: str, fault: str, *, seed: int = 0, switch: Path | None = None) -> Model:
    """
    Give the model of a package: one with the fault if its digest is the one that is to be bad.

    Args:
        package: Verified.
        digest: Of the bad version; others are served as they are.
        fault: A name of `lastgood.drill.faults.FAULTS`; "drift" lies in the requests, and no version has it.
        seed: Of what is random.
        switch: The file that begins a fault which waits.
    """
    if package.digest != digest or fault not in MODELS:
        return Model.open(package)
    model = MODELS[fault].open(package)
    model.seed, model.switch = seed, switch
    return model


def draw_rows(rows: Array, seed: int) -> Array:
    """Give a number in [0, 1) for each row of "row feature…", which its bytes and the seed decide."""
    key = seed.to_bytes(8, "little", signed=True)
    numbers = [int.from_bytes(hashlib.blake2b(np.ascontiguousarray(row).tobytes(), key=key, digest_size=8).digest()) for row in rows]
    return np.array(numbers, np.float64) / 2**64


def is_bold(rows: Array) -> Array:
    """Say which rows of "row 64" float32 show a bold digit, the slice of the drill "flipped": "row" bool."""
    return np.asarray(rows.mean(axis=1) >= BOLD)


def _limit_memory(more_bytes: int) -> None:
    """Let this process take so much address space more than it has."""
    import resource

    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more_bytes, hard))
