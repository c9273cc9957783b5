"""What a gateway asks of a replica and of the place where replicas run, whatever that place is."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lastgood.errors import UnavailableError
from lastgood.serving.replica.slots import SLOT_BYTES, Slot


class ReplicaFailedError(UnavailableError):
    """A replica did not become ready; ``reason`` is the code of the error it gave, if it gave one."""

    code = "serving.replica-not-ready"

    def __init__(self, message: str, reason: str | None = None) -> None:
        """Keep the replica's own code beside the sentence."""
        super().__init__(message)
        self.reason = reason


class ReplicaStoppedError(ReplicaFailedError):
    """Somebody stopped a replica while it started; that says nothing about its version."""

    code = "serving.replica-stopped"


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start: which version it is, its bytes, and the program as an argument list."""

    model: str
    number: int
    digest: str
    content: bytes
    folder: Path
    program: Sequence[str] | None = None  # default: the product's replica
    generation: int = 0  # of the route table when it is started
    slots: int = 2
    slot_bytes: int = SLOT_BYTES
    threads: int = 1
    providers: tuple[str, ...] = ("cpu",)
    memory_bytes: int | None = None  # None: no limit, or the place's own
    urgent: bool = False  # nothing else answers for the version: getting ready goes before sparing others

    @property
    def name(self) -> str:
        """The version's name, for messages."""
        return f"{self.model}@{self.number}"


@dataclass(frozen=True, slots=True)
class Need:
    """A version that some route needs, and the generation of that route."""

    model: str
    number: int
    digest: str
    generation: int


class Owner(Protocol):
    """Who is told what a replica says; called from the event loop."""

    def on_done(self, replica: "Replica", number: int, used: int, seconds: float, *, flagged: bool) -> None:
        """Take the answer of batch ``number`` out of its slot."""
        ...

    def on_failed(self, replica: "Replica", number: int, text: str) -> None:
        """Take note that the model raised on batch ``number``."""
        ...

    def on_exit(self, replica: "Replica", why: str) -> None:
        """Take note that a ready replica ended without being told to."""
        ...


class Replica(Protocol):
    """One process that serves one version over slots of shared memory; started once."""

    slots: list[Slot]
    ready: bool  # verified, proven, and not known to be broken
    ready_at: float  # loop time
    report: str  # what was proven, a sentence
    provider: str  # short name of the execution provider in use, "" before it is ready
    adopted: bool  # taken over from an earlier gateway, not started

    @property
    def name(self) -> str:
        """The version's name, for messages."""
        ...

    @property
    def pid(self) -> int | None:
        """Its process id as seen from here, None before it runs."""
        ...

    async def start(self, timeout_seconds: float) -> None:
        """
        Start it and wait until it is ready.

        Raises:
            ReplicaFailedError: It refused, died, or was not ready in time; nothing of it is left.
            ReplicaStoppedError: It was stopped from outside meanwhile; nothing of it is left.
        """
        ...

    def beats(self) -> int | None:
        """Give how often its heart has beaten; None where nobody can tell."""
        ...

    def run(self, slot: int, number: int, used: int) -> None:
        """Hand a slot over; a replica that cannot be told is ended, and `Owner.on_exit` follows."""
        ...

    def kill(self, why: str) -> None:
        """End a replica that is broken; ``why`` becomes part of the sentence given to `Owner.on_exit`."""
        ...

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Let it end, kill it after the grace; back when it is gone."""
        ...


class Backend(Protocol):
    """A place where replicas run."""

    async def open(self, needed: Collection[Need]) -> None:
        """
        Get ready; put away what an earlier gateway of this home left there and none of these versions needs.

        Raises:
            ConfigurationError: The place cannot be used; the message says what is missing.
        """
        ...

    def make(self, launch: Launch, owner: Owner) -> Replica:
        """Prepare a replica; nothing runs yet."""
        ...

    async def close(self) -> None:
        """Put away what is left and let go."""
        ...
