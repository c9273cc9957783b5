"""
The gateway's hand in the shared record: registry calls, off the event loop, one at a time.

Every change of a model's state is one transaction: its events, the aliases it moves, the tombstone, and the route under
the next generation.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

import structlog

from lastgood.errors import LastgoodError
from lastgood.registry.audit import Piece
from lastgood.registry.chain import Checked
from lastgood.registry.content import Content
from lastgood.registry.registry import Registry
from lastgood.registry.transaction import Transaction
from lastgood.serving.gateway.rollouts.state import Change, ModelState
from lastgood.serving.rollout.table import Cause, Pin
from lastgood.settings import Settings

log = structlog.get_logger()
T = TypeVar("T")
_LONGEST_DELAY_SECONDS: Final = 5.0
ACTOR: Final = "gateway"  # writer of the event chain, and who acts when nobody asked


@dataclass(frozen=True, slots=True)
class Note:
    """What the log is told about a change."""

    kind: str
    digest: str | None
    actor: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    idempotency: str | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What the shared record has of a model: its state under a generation, all tombstones, and whether a decision is in it."""

    state: ModelState
    generation: int
    tombstones: frozenset[str]
    known: bool = False


@dataclass(frozen=True, slots=True)
class Burial:
    """A tombstone to be written beside notes that change no state."""

    pin: Pin
    cause: Cause
    actor: str
    why: str
    key: str  # of the decision: a repetition that comes after a person lifted it changes nothing


class SharedRecord:
    """Asynchronous calls of the registry through one thread of its own."""

    def __init__(self, settings: Settings) -> None:
        """Remember where the registry is; nothing is opened yet."""
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="registry")
        # Copying a version's bytes out may take long; a withdrawal must not wait behind it.
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="registry-copy")
        self._registry: Registry | None = None

    async def open(self) -> None:
        """Open the registry."""
        self._registry = await asyncio.get_running_loop().run_in_executor(self._thread, lambda: Registry.open(self._settings, writer=ACTOR))

    async def close(self) -> None:
        """Wait for what was begun, and close."""
        if self._registry is not None:
            await self.call(Registry.close)
        self._thread.shutdown()
        self._copier.shutdown()

    async def call(self, function: Callable[[Registry], T]) -> T:
        """Run a function on the registry in its thread."""
        registry = cast("Registry", self._registry)
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, registry)

    async def insist(self, work: Callable[[], Awaitable[None]], *, what: str, model: str) -> None:
        """
        Do work on the record for as long as it takes: a database that is away, locked or full comes back.

        Args:
            work: Reads and writes from the beginning each time it is called.
            what: What is written, for the log.
            model: About which model.
        """
        delay = 0.1
        while True:
            try:
                await work()
            except (LastgoodError, OSError) as exc:
                log.warning("not in the shared record yet", what=what, model=model, why=str(exc))
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
            else:
                return

    async def load(self) -> tuple[dict[str, tuple[ModelState, int]], set[str]]:
        """Give every model's state with its generation, and the digests that must not serve."""

        def read(registry: Registry) -> tuple[dict[str, tuple[ModelState, int]], set[str]]:
            routes = {route.model: (ModelState.from_json(route.body), route.generation) for route in registry.routes()}
            return routes, set(registry.tombstones())

        return await self.call(read)

    async def load_model(self, model: str, *, key: str | None = None) -> Stored:
        """
        Give what the shared record has of one model, at one time; a new model begins at generation 0.

        Args:
            model: Which model.
            key: A decision's; whether it is recorded is told beside.
        """

        def read(registry: Registry) -> Stored:
            # First: what is written after this was read is refused by its generation.
            route = registry.route(model)
            state, generation = (ModelState(model), 0) if route is None else (ModelState.from_json(route.body), route.generation)
            return Stored(state, generation, frozenset(registry.tombstones()), key is not None and registry.knows(key))

        return await self.call(read)

    async def materialize(self, digest: str, folder: Path) -> Content:
        """Copy a version's files out, every byte verified, and give its content."""
        registry = cast("Registry", self._registry)

        def copy() -> Content:
            content = registry.content(digest)
            registry.materialize(digest, folder)
            return content

        return await asyncio.get_running_loop().run_in_executor(self._copier, copy)

    async def check_log(self, checked: Checked, limit: int) -> Piece:
        """Check the next events of the log, in the thread that copies: nothing that is decided waits for it."""
        registry = cast("Registry", self._registry)
        return await asyncio.get_running_loop().run_in_executor(self._copier, registry.check_log, checked, limit)

    async def append(self, model: str, notes: list[Note], burial: Burial | None = None) -> None:
        """Write events that change no state, and a tombstone."""

        def commit(registry: Registry) -> None:
            with registry.transaction() as transaction:
                _append(transaction, model, notes)
                if burial is not None:
                    _bury(transaction, model, burial)

        await self.call(commit)

    async def write(self, change: Change, expected: int, notes: list[Note], *, actor: str, why: str, burial: Burial | None = None) -> int:
        """
        Write one change, everything or nothing; give the new generation.

        Args:
            change: What becomes of a model.
            expected: The generation it was computed from.
            notes: What the log is told.
            actor: Who moves the aliases.
            why: The reason.
            burial: The tombstone, if a version is taken out as bad.

        Raises:
            ConflictError: The generation in the shared record is not the expected one.
        """
        model = change.state.model

        def commit(registry: Registry) -> int:
            with registry.transaction() as transaction:
                _append(transaction, model, notes)
                for alias, pin in _alias_moves(change):
                    transaction.move_alias(model, alias, pin.digest, actor=actor, why=why)
                if burial is not None:
                    _bury(transaction, model, burial)
                return transaction.write_route(model, change.state.to_json(), expected=expected)

        return await self.call(commit)


def _alias_moves(change: Change) -> list[tuple[str, Pin]]:
    return [(name, pin) for name, pin in (("live", change.live), ("stable", change.stable)) if pin is not None]


def _append(transaction: Transaction, model: str, notes: list[Note]) -> None:
    for note in notes:
        transaction.append(note.kind, model=model, digest=note.digest, actor=note.actor, payload=note.payload, idempotency=note.idempotency)


def _bury(transaction: Transaction, model: str, burial: Burial) -> None:
    transaction.tombstone(
        burial.pin.digest,
        model=model,
        cause=cast("Literal['judge', 'alert', 'person']", burial.cause),
        actor=burial.actor,
        why=burial.why,
        payload=asdict(burial.pin),
        idempotency=f"{burial.key}/tombstone",
    )
