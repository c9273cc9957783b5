"""
The conductor drives every rollout of this gateway.

Giving is shared first: a version gets traffic only after the shared record holds the route that says so. The CLI and
flows submit intents and watch; killing them changes nothing here.
"""

import asyncio
import contextlib
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from lastgood.errors import ConfigurationError, ConflictError, LastgoodError, NotFoundError, TombstonedError
from lastgood.serving.backends.choice import make_backend
from lastgood.serving.backends.replica import Need
from lastgood.serving.gateway.alerts import Alert, Ruling, rule, to_payload
from lastgood.serving.gateway.book import Book, Held
from lastgood.serving.gateway.installer import Installer
from lastgood.serving.gateway.intents import Intent, check_intent
from lastgood.serving.gateway.journal import Journal
from lastgood.serving.gateway.plane import DataPlane
from lastgood.serving.gateway.record import ACTOR, Note, SharedRecord
from lastgood.serving.gateway.shelf import Shelf
from lastgood.serving.gateway.state import Change, ModelState, prove_live, step, submit
from lastgood.serving.gateway.watch import Watch
from lastgood.serving.gateway.withdrawals import Reason, Withdrawals
from lastgood.serving.rollout.table import EventKind, Pin, Rollout, State
from lastgood.settings import Settings

log = structlog.get_logger()


class Conductor:
    """Owns the states of all models of one gateway."""

    def __init__(self, settings: Settings, plane: DataPlane, *, program: Sequence[str] | None = None) -> None:
        """
        Prepare; `start` reads the shared record and begins.

        Args:
            settings: Where the registry and the journal are.
            plane: What answers requests.
            program: Another replica program than the product's.
        """
        folder = settings.home / "gateway"
        self.book = Book()
        self.record = SharedRecord(settings)
        self.plane = plane
        self._journal = Journal(folder / "withdrawals.jsonl")
        self.shelf = Shelf(
            self.record, plane, folder / "versions", backend=make_backend(settings), program=program, generation=self.book.generation
        )
        self._installer = Installer(settings, plane, self.shelf)
        self.withdrawals = Withdrawals(
            self.book, self.record, self._journal, self._installer, on_recorded=lambda held: self.book.spawn(self._warm(held))
        )
        self._watch = Watch(self.book, self.shelf, self.record, self._installer, self.withdrawals, self._go_on)
        self._installer.on_bad = self._watch.on_bad
        self.shelf.on_death = self._watch.on_death
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the shared record, apply the journal, and bring up every version that must serve; then drive."""
        await self.record.open()
        states, self.book.vetoed = await self.record.load()
        self.book.held = {model: Held(state, generation) for model, (state, generation) in states.items()}
        self.withdrawals.apply_journal()
        try:
            await self.shelf.open(self._needs())
        except ConfigurationError:
            await self.close()
            raise
        await asyncio.gather(*(self._bring_back(held) for held in self.book.held.values()))
        self.withdrawals.record_journal()
        self._watching = asyncio.create_task(self._watch.run())

    async def close(self) -> None:
        """Stop driving, write what is decided and not yet recorded, and stop every replica."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        await self.book.close(seconds=5)  # what is still unwritten after this is in the journal
        await self.shelf.close()
        await self.record.close()
        self._journal.close()

    def _needs(self) -> list[Need]:
        """Give every version that the routes need and that may serve."""
        return [
            Need(model, pin.number, pin.digest, held.generation)
            for model, held in self.book.held.items()
            for pin in held.state.warm
            if pin.digest not in self.book.vetoed
        ]

    async def _bring_back(self, held: Held) -> None:
        model, split = held.state.model, held.state.split
        needed = [pin for pin in (split.main, split.candidate) if pin is not None]
        results = await asyncio.gather(*(self.shelf.bring(model, pin) for pin in needed), return_exceptions=True)
        for pin, result in zip(needed, results, strict=True):
            if isinstance(result, LastgoodError):
                log.error("version does not come up", model=model, version=pin.number, why=str(result))
                held.reason = str(result)
                reason = Reason("not-ready", ACTOR, str(result), tombstone=False)
                if self.withdrawals.take(model, pin, reason) and held.state.live is not None:
                    with contextlib.suppress(LastgoodError):
                        await self.shelf.bring(model, held.state.live)
            elif isinstance(result, BaseException):
                raise result
        self._installer.install(held, self.book.vetoed)
        if held.state.running is not None and held.state.running.state is State.STAGED:
            self.book.spawn(self._stage(held, held.state.running))
        self.book.spawn(self._warm(held))

    # --- intents ----------------------------------------------------------------------------------------------------

    async def submit(self, intent: Intent) -> ModelState:
        """
        Begin a rollout.

        Raises:
            NotFoundError: The reference names no version.
            TombstonedError: The version was taken out as bad.
            FrozenError: The model takes no release.
            ConflictError: A rollout is running, or the version is live already.
        """
        version = await self.record.call(lambda registry: registry.resolve(intent.ref))
        pin, model = Pin(version.number, version.digest), version.model
        held = self.book.held.setdefault(model, Held(ModelState(model)))
        check_intent(intent, pin, held.state, self.book.vetoed)
        if held.state.running is not None:
            reason = Reason("person", intent.actor, f"replaced by {model}@{pin.number}", tombstone=False)
            self.withdrawals.take(model, held.state.running.candidate, reason)
            await self.withdrawals.settle(model)
        async with held.lock:
            check_intent(intent, pin, held.state, self.book.vetoed)  # somebody may have been first
            baseline = held.state.live if held.state.live and held.state.live.digest not in self.book.vetoed else None
            rollout = Rollout(
                id=uuid.uuid4().hex,
                model=model,
                candidate=pin,
                baseline=baseline,
                fallback=baseline,
                strategy=intent.strategy,
                policy=intent.policy,
                seed=secrets.randbits(64),
            )
            note = Note("rollout-submitted", pin.digest, intent.actor, {"rollout": rollout.to_json(), "why": intent.why})
            held.paged = held.reason = held.reason_code = None
            await self._commit(held, submit(held.state, rollout, _now()), [note], actor=intent.actor, why=intent.why)
        self.book.spawn(self._stage(held, rollout))
        return held.state

    async def promote(self, model: str, *, actor: str, why: str) -> ModelState:
        """
        End a rollout early as stable; without one, let the live version be stable.

        Raises:
            ConflictError: No rollout has a candidate that serves, and what is live is stable.
        """
        held = self.book.known(model)
        if held.state.running is None:
            async with held.lock:
                change = prove_live(held.state)
                if change.stable is not None:
                    payload = {"version": change.stable.number, "state": "stable", "why": why}
                    note = Note("rollout-stable", change.stable.digest, actor, payload)
                    await self._commit(held, change, [note], actor=actor, why=why)
                    return held.state
        if held.state.running is None or held.state.running.state is State.STAGED:
            raise ConflictError(f"{model} has no rollout with a candidate that serves; there is nothing to promote.")
        await self._advance(held, EventKind.PROMOTE, held.state.running.id, actor=actor, why=why)
        return held.state

    async def rollback(self, model: str, *, to: str | None, reason: Reason, only: str | None = None) -> ModelState:
        """
        Take out the candidate of the running rollout, else the live version, because a person says so.

        Args:
            model: Which model.
            to: The version that shall serve instead; default: the fallback.
            reason: Who, why, and whether the version may come back.
            only: Digest of the one candidate to take out; when no rollout of it runs, nothing is changed.

        Raises:
            ConflictError: There is nothing to take out, or nothing to go back to.
            TombstonedError: The version named was taken out as bad.
        """
        held = self.book.known(model)
        bad = held.state.running.candidate if held.state.running else held.state.live
        if only is not None and (held.state.running is None or held.state.running.candidate.digest != only):
            return held.state
        if bad is None:
            raise ConflictError(f"{model} serves nothing; there is nothing to take out.")
        target = None
        if to is not None:
            version = await self.record.call(lambda registry: registry.resolve(to))
            target = Pin(version.number, version.digest)
            if version.model != model or target == bad:
                raise ConflictError(f"{to} cannot replace {model}@{bad.number}: expected another version of {model}.")
            if target.digest in self.book.vetoed:
                raise TombstonedError(f"{to} was taken out as bad; lift it first: lastgood lift {target.digest[:19]} -m WHY.")
            await self.shelf.bring(model, target)
        if not self.withdrawals.take(model, bad, reason, target=target):
            raise ConflictError(f"{model}@{bad.number} is the only version that can serve. Name another with --to, or deploy one first.")
        await self.withdrawals.settle(model)
        return held.state

    async def unfreeze(self, model: str, *, actor: str, why: str) -> ModelState:
        """Let the model take releases again."""
        held = self.book.known(model)
        async with held.lock:
            if held.state.frozen is not None:
                change = Change(replace(held.state, frozen=None, withdrawals=()))
                await self._commit(held, change, [Note("unfrozen", None, actor, {"why": why})], actor=actor, why=why)
        return held.state

    async def lift(self, digest: str, *, actor: str, why: str) -> str:
        """
        Lift a tombstone; give the whole digest.

        Raises:
            NotFoundError: No tombstoned digest begins like this, or several do.
        """
        await self.withdrawals.settle()  # one still on its way to the record would bring the tombstone back
        found = [vetoed for vetoed in sorted(self.book.vetoed) if vetoed.startswith(digest)]
        if len(found) != 1:
            known = ", ".join(sorted(self.book.vetoed)) or "none"
            raise NotFoundError(f"{digest} names {len(found)} tombstoned digests, expected one; there are: {known}.")
        await self.record.call(lambda registry: registry.lift(found[0], actor=actor, why=why))
        self.book.vetoed.discard(found[0])
        self.book.tell()
        return found[0]

    async def hear(self, alert: Alert) -> Ruling:
        """Do what an alert asks for, if it speaks of what serves now."""
        held = self.book.held.get(alert.model or "")
        ruling = rule(alert, {model: held.state for model, held in self.book.held.items()})
        if ruling.pin is not None and held is not None:
            running = held.state.running
            if ruling.result == "rollback":
                reason = Reason("alert", "alert", ruling.reason, payload={"alert": to_payload(alert)})
                if not self.withdrawals.take(held.state.model, ruling.pin, reason):
                    ruling = Ruling("ignored", "there is no version to go back to: a person was paged")
            elif running is not None and running.candidate == ruling.pin:
                await self._advance(held, EventKind.SUSPECTED, running.id, why=ruling.reason)
            else:
                ruling = Ruling("ignored", "no rollout compares this version with another")
        self.book.tallies["alerts", held.state.model if held else "unknown", ruling.result] += 1
        log.info("alert", name=alert.name, model=alert.model, version=alert.version, result=ruling.result, reason=ruling.reason)
        return ruling

    # --- giving -----------------------------------------------------------------------------------------------------

    async def _stage(self, held: Held, rollout: Rollout) -> None:
        """Bring the candidate up; then it is ready, or withdrawn because it is not."""
        try:
            needed = [pin for pin in (rollout.baseline, rollout.candidate) if pin is not None]
            await asyncio.gather(*(self.shelf.bring(rollout.model, pin) for pin in needed))
        except LastgoodError as exc:
            held.reason, held.reason_code = str(exc), exc.exit_code
            await self._advance(held, EventKind.NOT_READY, rollout.id, why=str(exc), payload={"code": exc.code})
            return
        await self._advance(held, EventKind.READY, rollout.id)

    def _go_on(self, rollout: Rollout, kind: EventKind, why: str) -> None:
        self.book.spawn(self._advance(self.book.held[rollout.model], kind, rollout.id, why=why))

    async def _advance(
        self, held: Held, kind: EventKind, rollout: str, *, actor: str = ACTOR, why: str = "", payload: dict[str, Any] | None = None
    ) -> None:
        """Apply an event of the rollout if it is the one that runs: shared record first, route after."""
        async with held.lock:
            running = held.state.running
            if running is None or running.id != rollout:
                return
            change = step(held.state, kind, _now())
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
            await self._commit(held, change, [Note(name, after.candidate.digest, actor, detail)], actor=actor, why=why or str(kind))
            log.info("rollout", model=running.model, version=after.candidate.number, state=after.state, because=kind)

    async def _commit(self, held: Held, change: Change, notes: list[Note], *, actor: str, why: str) -> None:
        """Write a change under the lock; put it in place unless something was withdrawn meanwhile."""
        before = held.state
        try:
            held.generation = await self.record.write(change, held.generation, notes, actor=actor, why=why)
        except ConflictError:
            # Somebody else wrote: what is recorded holds, and the caller may try again on it.
            held.state, held.generation = await self.record.load_model(before.model)
            self._installer.install(held, self.book.vetoed)
            raise
        if held.state is before:
            held.state = change.state
            self._installer.install(held, self.book.vetoed)
            self.book.spawn(self._warm(held))
        # Else a withdrawal came in between: its own record follows under this lock, computed from what was written here.
        self.book.tell()

    async def _warm(self, held: Held) -> None:
        """Let exactly the versions run that the state needs."""
        model = held.state.model
        self.shelf.keep_only(model, held.state.warm)
        for pin in held.state.warm:
            if pin.digest not in self.book.vetoed:
                # A candidate that fails is told by _stage, a live version by _bring_back.
                with contextlib.suppress(LastgoodError):
                    await self.shelf.bring(model, pin)
        self._installer.install(held, self.book.vetoed)


def _now() -> datetime:
    return datetime.now(UTC)
