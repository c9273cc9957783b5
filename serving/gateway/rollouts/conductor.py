"""
The conductor drives every rollout of this gateway.

Giving is in `stages`, taking away in `withdrawals`. The CLI and flows submit intents and watch; killing them changes
nothing here.
"""

import asyncio
import contextlib
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import structlog

from lastgood.errors import ConfigurationError, ConflictError, NotFoundError, TombstonedError
from lastgood.registry.cooldown import Cooldown
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.serving.backends.choice import make_backend
from lastgood.serving.gateway.observation.observation import Observation
from lastgood.serving.gateway.pool.pool import ReplicaPool
from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.rollouts.alerts import Alert, Ruling, rule, to_payload
from lastgood.serving.gateway.rollouts.auditor import Auditor
from lastgood.serving.gateway.rollouts.book import Book, Held
from lastgood.serving.gateway.rollouts.comparisons import Comparisons
from lastgood.serving.gateway.rollouts.installer import Installer
from lastgood.serving.gateway.rollouts.intents import Intent, check_cooldown, check_intent
from lastgood.serving.gateway.rollouts.journal import Journal
from lastgood.serving.gateway.rollouts.opening import Opening
from lastgood.serving.gateway.rollouts.record import Note, SharedRecord
from lastgood.serving.gateway.rollouts.shelf import Shelf
from lastgood.serving.gateway.rollouts.stages import Stages
from lastgood.serving.gateway.rollouts.state import Change, ModelState, prove_live, submit
from lastgood.serving.gateway.rollouts.watch import Watch
from lastgood.serving.gateway.rollouts.withdrawals import Reason, Withdrawals
from lastgood.serving.gateway.sleep.recency import Recency
from lastgood.serving.gateway.sleep.room import Room
from lastgood.serving.gateway.sleep.sleepers import Sleepers
from lastgood.serving.rollout.table import EventKind, Pin, Rollout, State
from lastgood.settings import Settings

log = structlog.get_logger()
_RECORD_SECONDS: Final = 5.0  # that a person who takes a version out waits for the shared record


class Conductor:
    """Owns the states of all models of one gateway."""

    def __init__(self, settings: Settings, reception: Reception, *, program: Sequence[str] | None = None) -> None:
        """
        Prepare; `start` reads the shared record and begins.

        Args:
            settings: Where the registry and the journal are.
            reception: What answers requests.
            program: Another replica program than the product's.
        """
        folder = settings.home / "gateway"
        self.book = Book()
        self.record = SharedRecord(settings)
        self.reception = reception
        self.observation = Observation(settings, self.book, self.record)
        self._journal = Journal(folder / "withdrawals.jsonl")
        recency = Recency(folder / "asked.json")
        room = Room(settings.serving, self.book)
        self.sleepers = Sleepers(self.book, room, recency)
        self.shelf = Shelf(
            self.record,
            reception,
            self.sleepers,
            folder / "versions",
            backend=make_backend(settings),
            program=program,
            serving=settings.serving,
            generation=self.book.generation,
            on_batch=self.observation.feed.show,
        )
        self._installer = Installer(settings, reception, self.shelf)
        self.withdrawals = Withdrawals(
            self.book, self.record, self._journal, self._installer, on_recorded=lambda held: self.book.spawn(self._stages.warm(held))
        )
        self._stages = Stages(self.book, self.record, self.shelf, self._installer, self.withdrawals)
        self._comparisons = Comparisons(self.book, self.record, self.shelf, self._stages, self.withdrawals)
        self._opening = Opening(
            self.book,
            self.record,
            self.shelf,
            room,
            recency,
            installer=self._installer,
            withdrawals=self.withdrawals,
            stages=self._stages,
        )
        self._watch = Watch(self.book, self.shelf, self.record, self._installer, self.withdrawals, self._stages.go_on)
        self.auditor = Auditor(self.record, folder / "checked.json")
        self._installer.on_bad = self._watch.on_bad
        self.shelf.on_death = self._watch.on_death
        self.sleepers.on_failed = self._note_failed_wake
        self.shelf.on_up = self.observation.watch
        self.shelf.on_down = self.observation.forget
        self.observation.look = self._watch.look
        self.observation.drifts.advance = self._stages.go_on
        reception.on_labels = self.observation.take_labels
        self._watching: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open, and bring up what must serve."""
        await self.open()
        await self.bring_up()

    async def open(self) -> None:
        """
        Read the shared record and apply the journal: from now on what is asked is answered, if only by "not yet".

        Raises:
            ConfigurationError: Replicas cannot run where the settings say.
        """
        await self.record.open()
        states, self.book.vetoed = await self.record.load()
        self.book.held = {model: Held(state, generation) for model, (state, generation) in states.items()}
        self.withdrawals.apply_journal()
        for model, held in self.book.held.items():
            if held.state.split.main is not None:
                self.reception.suspend(model)
        self.observation.start()
        try:
            await self.shelf.open(await self._opening.plan())
        except ConfigurationError:
            await self.close()
            raise

    async def bring_up(self) -> None:
        """Bring up every version that must serve; then drive."""
        await self._opening.bring_up()
        self.withdrawals.record_journal()
        tasks = (self._watch.run(), self.auditor.run(), self.sleepers.run())
        self._watching = [asyncio.create_task(task) for task in tasks]

    async def close(self) -> None:
        """Stop driving, write what is decided and not yet recorded, and stop every replica."""
        for task in self._watching:
            task.cancel()
        for task in self._watching:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.book.close(seconds=5)  # what is still unwritten after this is in the journal
        await self.shelf.close()
        await self.observation.close()
        await self.record.close()
        self._journal.close()

    def _note_failed_wake(self, pool: ReplicaPool, why: str, times: int) -> None:
        held = self.book.held[pool.model]
        held.reason = why
        if times > 1:  # after the first time its files are copied out anew, which may have been all
            self.withdrawals.page(held, f"{pool.model}@{pool.number} sleeps and cannot be woken: {why}")

    # --- intents ----------------------------------------------------------------------------------------------------

    async def submit(self, intent: Intent) -> ModelState:
        """
        Begin a rollout.

        Raises:
            NotFoundError: The reference names no version.
            TombstonedError: The version was taken out as bad.
            FrozenError: The model takes no release.
            ConflictError: A rollout is running, the version is live already, or it is an automatic release of what has just failed.
        """
        version = await self.record.call(lambda registry: registry.resolve(intent.ref))
        pin, model = Pin(version.number, version.digest), version.model
        held = self.book.held.setdefault(model, Held(ModelState(model)))
        check_intent(intent, pin, held.state, self.book.vetoed)
        if intent.automatic:
            await self.withdrawals.settle(model)  # one that is not recorded yet counts too
            check_cooldown(model, pin.number, await self.record.call(lambda registry: _find_cooldown(registry, version, intent)))
        running = held.state.running
        if running is not None and running.comparison:
            # What is live was no release of today: it stays, as it was before the alert.
            why = f"ended without a verdict: {model}@{pin.number} is released"
            await self._stages.advance(held, EventKind.PROMOTE, running.id, actor=intent.actor, why=why)
        elif running is not None:
            reason = Reason("person", intent.actor, f"replaced by {model}@{pin.number}", tombstone=False)
            self.withdrawals.take(model, running.candidate, reason)
            await self.withdrawals.settle(model)
        async with self._stages.giving(held):
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
            await self._stages.commit(held, submit(held.state, rollout, _now()), [note], actor=intent.actor, why=intent.why)
        self.book.spawn(self._stages.stage(held, rollout))
        return held.state

    async def promote(self, model: str, *, actor: str, why: str) -> ModelState:
        """
        End a rollout early as stable; without one, let the live version be stable.

        Raises:
            ConflictError: No rollout has a candidate that serves, and what is live is stable.
        """
        held = self.book.known(model)
        if held.state.running is None:
            async with self._stages.giving(held):
                change = prove_live(held.state)
                if change.stable is not None:
                    payload = {"version": change.stable.number, "state": "stable", "why": why}
                    note = Note("rollout-stable", change.stable.digest, actor, payload)
                    await self._stages.commit(held, change, [note], actor=actor, why=why)
                    return held.state
        if held.state.running is None or held.state.running.state is State.STAGED:
            raise ConflictError(f"{model} has no rollout with a candidate that serves; there is nothing to promote.")
        await self._stages.advance(held, EventKind.PROMOTE, held.state.running.id, actor=actor, why=why)
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
        if only is not None and (held.state.running is None or held.state.running.comparison or bad is None or bad.digest != only):
            return held.state  # a comparison is nobody's release
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
        with contextlib.suppress(TimeoutError):  # it is done; whoever asked is told that the record follows
            async with asyncio.timeout(_RECORD_SECONDS):
                await self.withdrawals.settle(model)
        return held.state

    async def unfreeze(self, model: str, *, actor: str, why: str) -> ModelState:
        """Let the model take releases again."""
        held = self.book.known(model)
        async with self._stages.giving(held):
            if held.state.frozen is not None:
                change = Change(replace(held.state, frozen=None, withdrawals=()))
                await self._stages.commit(held, change, [Note("unfrozen", None, actor, {"why": why})], actor=actor, why=why)
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
        ruling = rule(alert, {model: held.state for model, held in self.book.held.items()}, datetime.now(UTC))
        if ruling.pin is not None and held is not None:
            running = held.state.running
            if ruling.result == "rollback":
                reason = Reason("alert", "alert", ruling.reason, payload={"alert": to_payload(alert)})
                if not self.withdrawals.take(held.state.model, ruling.pin, reason):
                    ruling = Ruling("ignored", "it was decided on before; or there is no version to go back to, and a person was paged")
            elif running is not None and running.candidate == ruling.pin:
                await self._stages.advance(held, EventKind.SUSPECTED, running.id, why=ruling.reason)
            else:
                ruling = self._comparisons.hear(held, alert, ruling)
        self.book.tallies["alerts", held.state.model if held else "unknown", ruling.result] += 1
        log.info("alert", name=alert.name, model=alert.model, version=alert.version, result=ruling.result, reason=ruling.reason)
        return ruling


def _find_cooldown(registry: Registry, version: Version, intent: Intent) -> Cooldown | None:
    record = registry.record(version.digest, model=version.model)
    seconds = intent.policy.cooldown_seconds
    return registry.find_cooldown(version.model, commit=record.commit, data=record.data, seconds=seconds, now=_now())


def _now() -> datetime:
    return datetime.now(UTC)
