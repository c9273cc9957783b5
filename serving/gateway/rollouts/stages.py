"""
Giving: shared first.

A version gets traffic only after the shared record holds the route that says so, under the next generation. Where the
record cannot be written, a rollout stays where it is and goes on when it can.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import structlog

from lastgood.errors import ConflictError, LastgoodError
from lastgood.serving.gateway.rollouts.book import Book, Held
from lastgood.serving.gateway.rollouts.installer import Installer
from lastgood.serving.gateway.rollouts.record import ACTOR, Note, SharedRecord
from lastgood.serving.gateway.rollouts.shelf import Shelf
from lastgood.serving.gateway.rollouts.state import Change, step
from lastgood.serving.gateway.rollouts.withdrawals import Withdrawals
from lastgood.serving.rollout.table import EventKind, Rollout

log = structlog.get_logger()


class Stages:
    """Takes rollouts from one stage to the next, and lets exactly the versions be here that their states need."""

    def __init__(self, book: Book, record: SharedRecord, shelf: Shelf, installer: Installer, withdrawals: Withdrawals) -> None:
        """Remember what is changed, where it is written, and what was taken away."""
        self._withdrawals = withdrawals
        self._book = book
        self._record = record
        self._shelf = shelf
        self._installer = installer

    @contextlib.asynccontextmanager
    async def giving(self, held: Held) -> AsyncIterator[None]:
        """
        Hold the model's lock, with every decision about it recorded: what is given does not overtake what was taken away.

        A change is computed from what is in memory. With a withdrawal that is there and not in the record, it would bring the
        withdrawal's route into the record, and neither its tombstone nor its aliases.

        Raises:
            LastgoodError: The record cannot be written.
        """
        async with held.lock:
            await self._withdrawals.record_open(held)
            yield

    async def stage(self, held: Held, rollout: Rollout) -> None:
        """Bring the candidate up; then it is ready, or withdrawn because it is not."""
        try:
            needed = [pin for pin in (rollout.baseline, rollout.candidate) if pin is not None]
            await asyncio.gather(*(self._shelf.bring(rollout.model, pin) for pin in needed))
        except LastgoodError as exc:
            held.reason, held.reason_code = str(exc), exc.exit_code
            await self._insist(held, EventKind.NOT_READY, rollout.id, why=str(exc), payload={"code": exc.code})
            return
        await self._insist(held, EventKind.READY, rollout.id)

    async def _insist(self, held: Held, kind: EventKind, rollout: str, *, why: str = "", payload: dict[str, Any] | None = None) -> None:
        """Advance for as long as it takes to be written: nobody else will tell what became of the candidate."""
        work = functools.partial(self.advance, held, kind, rollout, why=why, payload=payload)
        await self._record.insist(work, what=f"stage {kind}", model=held.state.model)

    def go_on(self, rollout: Rollout, kind: EventKind, why: str) -> None:
        """Advance in a task of its own."""
        self._book.spawn(self.advance(self._book.held[rollout.model], kind, rollout.id, why=why))

    async def advance(
        self, held: Held, kind: EventKind, rollout: str, *, actor: str = ACTOR, why: str = "", payload: dict[str, Any] | None = None
    ) -> None:
        """Apply an event of the rollout if it is the one that runs: shared record first, route after."""
        async with self.giving(held):
            running = held.state.running
            if running is None or running.id != rollout:
                return
            change = step(held.state, kind, datetime.now(UTC))
            after = change.state.rollout
            if after is None or after == running:
                return
            detail = {
                "version": after.candidate.number,
                "event": kind,
                "state": after.state,
                "share": change.state.split.share,
                "why": why,
                "counts": [asdict(counts) for counts in held.counts.freeze()] if held.counts else [],
                **(payload or {}),
            }
            name = f"rollout-{after.state}" if after.state is not running.state else f"rollout-{kind}"
            await self.commit(held, change, [Note(name, after.candidate.digest, actor, detail)], actor=actor, why=why or str(kind))
            log.info("rollout", model=running.model, version=after.candidate.number, state=after.state, because=kind)

    async def commit(self, held: Held, change: Change, notes: list[Note], *, actor: str, why: str) -> None:
        """
        Write a change, under the model's lock that the caller holds; put it in place unless something was withdrawn meanwhile.

        Raises:
            ConflictError: Somebody else wrote; what is recorded holds, and the caller may try again on it.
        """
        before = held.state
        try:
            held.generation = await self._record.write(change, held.generation, notes, actor=actor, why=why)
        except ConflictError:
            self._withdrawals.adopt(held, await self._record.load_model(before.model))
            raise
        if held.state is before:
            held.state = change.state
            self._installer.install(held, self._book.vetoed)
            self._book.spawn(self.warm(held))
        # Else a withdrawal came in between: its own record follows under this lock, computed from what was written here.
        self._book.tell()

    async def warm(self, held: Held) -> None:
        """Let exactly the versions run that the state needs; those of a model that sleeps are kept asleep."""
        model = held.state.model
        self._shelf.keep_only(model, held.state.warm)
        bring = self._shelf.lay_down if held.state.running is None and self._shelf.rests(model) else self._shelf.bring
        for pin in held.state.warm:
            if pin.digest not in self._book.vetoed:
                # A candidate that fails is told by `stage`, a live version when it is brought back.
                with contextlib.suppress(LastgoodError):
                    await bring(model, pin)
        self._installer.install(held, self._book.vetoed)
