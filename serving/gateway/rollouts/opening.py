"""
What comes up when a gateway starts, and in which order: what was asked most lately first, as many at a time as there are cores.

Whatever must serve is up before the gateway says that it is ready; with a limit (`loaded_bytes`), what does not fit lies asleep from
the start. The journal has been applied before.

What does not come up by its own fault is taken out. Where the machine is to blame (no room, no memory, no descriptor), that is no verdict
on a version: its model is not ready, a person is told, and it is tried again until it comes up or nobody needs it.
"""

import asyncio
import contextlib
from typing import Final

import structlog

from lastgood.errors import LastgoodError
from lastgood.serving.backends.replica import Need
from lastgood.serving.gateway.rollouts.book import Book, Held
from lastgood.serving.gateway.rollouts.installer import Installer
from lastgood.serving.gateway.rollouts.record import ACTOR, SharedRecord
from lastgood.serving.gateway.rollouts.shelf import Shelf
from lastgood.serving.gateway.rollouts.stages import Stages
from lastgood.serving.gateway.rollouts.withdrawals import Reason, Withdrawals
from lastgood.serving.gateway.sleep.footprint import estimate_bytes
from lastgood.serving.gateway.sleep.recency import Recency
from lastgood.serving.gateway.sleep.room import Room
from lastgood.serving.gateway.troubles import is_machines_fault
from lastgood.serving.rollout.table import Pin, State

log = structlog.get_logger()
_FIRST_PAUSE_SECONDS: Final = 1.0  # before what the machine had no room for is tried again; then twice as long each time
_LONGEST_PAUSE_SECONDS: Final = 60.0


class Opening:
    """Used once, at the start."""

    def __init__(
        self,
        book: Book,
        record: SharedRecord,
        shelf: Shelf,
        room: Room,
        recency: Recency,
        *,
        installer: Installer,
        withdrawals: Withdrawals,
        stages: Stages,
    ) -> None:
        """Remember the models, who brings them up, and who is told of what does not come up."""
        self._book = book
        self._record = record
        self._shelf = shelf
        self._room = room
        self._recency = recency
        self._installer = installer
        self._withdrawals = withdrawals
        self._stages = stages
        self._order: list[str] = []
        self._up: set[str] = set()

    async def plan(self) -> list[Need]:
        """Choose which models are to be up; give every version that they need and that may serve."""
        self._order = self._recency.order(self._book.held)
        needed: list[tuple[str, int]] = []
        for model in self._order:
            replicas = self._shelf.count_replicas(model)
            needed.append((model, sum([await self._estimate(pin, replicas) for pin in self._pins(model)])))
        self._up = self._room.choose(needed)
        return [
            Need(model, pin.number, pin.digest, self._book.held[model].generation)
            for model in self._order
            if model in self._up
            for pin in self._pins(model)
        ]

    async def bring_up(self) -> None:
        """Bring up what is to be up, in order, and lay the others down; back when all of it serves."""
        await asyncio.gather(*(self._bring_back(self._book.held[model]) for model in self._order))

    def _pins(self, model: str) -> list[Pin]:
        return [pin for pin in self._book.held[model].state.warm if pin.digest not in self._book.vetoed]

    async def _estimate(self, pin: Pin, replicas: int) -> int:
        if self._room.limit is None:
            return 0
        try:
            return estimate_bytes(await self._record.call(lambda registry: registry.content(pin.digest)), replicas)
        except LastgoodError as exc:
            log.warning("a version's content cannot be read", version=pin.number, why=str(exc))
            return 0  # what it is will be told when it is brought up

    async def _bring_back(self, held: Held) -> None:
        model, split = held.state.model, held.state.split
        needed = [pin for pin in (split.main, split.candidate) if pin is not None]
        results = await asyncio.gather(*(self._bring(model, pin) for pin in needed), return_exceptions=True)
        for pin, result in zip(needed, results, strict=True):
            if isinstance(result, BaseException):
                if is_machines_fault(result):
                    held.reason = f"{model}@{pin.number} is not up because of this machine, and is tried again: {result}"
                    self._withdrawals.page(held, held.reason)
                    self._book.spawn(self._insist(held, pin, held.reason), lasting=True)
                else:
                    await self._give_up(held, pin, result)
        self._installer.install(held, self._book.vetoed)
        if held.state.running is not None and held.state.running.state is State.STAGED:
            self._book.spawn(self._stages.stage(held, held.state.running))
        self._book.spawn(self._stages.warm(held))

    async def _bring(self, model: str, pin: Pin) -> None:
        if model in self._up:
            await self._shelf.bring(model, pin)
        else:
            await self._shelf.lay_down(model, pin)

    async def _give_up(self, held: Held, pin: Pin, exc: BaseException) -> None:
        """Take a version out that does not come up by its own fault; raise what is a bug."""
        if not isinstance(exc, LastgoodError):
            raise exc
        model = held.state.model
        log.error("version does not come up", model=model, version=pin.number, why=str(exc))
        held.reason = str(exc)
        reason = Reason("not-ready", ACTOR, str(exc), tombstone=False)
        if self._withdrawals.take(model, pin, reason) and held.state.live is not None:
            with contextlib.suppress(LastgoodError):
                await self._shelf.bring(model, held.state.live)

    async def _insist(self, held: Held, pin: Pin, said: str) -> None:
        """Try again what the machine had no room for, until it is here or nobody needs it."""
        model, pause = held.state.model, _FIRST_PAUSE_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            if pin.digest in self._book.vetoed or pin not in held.state.warm:
                return
            try:
                await self._bring(model, pin)
            except (LastgoodError, OSError) as exc:
                if not is_machines_fault(exc):
                    await self._give_up(held, pin, exc)
                    break
                log.warning("version is not up because of this machine", model=model, version=pin.number, why=str(exc), again_seconds=pause)
            else:
                held.reason = None if held.reason == said else held.reason
                held.paged = None if held.paged == said else held.paged
                break
        self._installer.install(held, self._book.vetoed)
        self._book.spawn(self._stages.warm(held))
