"""
Taking away: local and immediate.

Veto, switch, one fsynced line in the journal, and only then the shared record, for as long as that takes. When
`Withdrawals.take` returns, no further request is assigned to the version, and a gateway that dies now will not give
it one when it is back.
"""

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import structlog

from lastgood.serving.gateway.rollouts.book import Book, Held
from lastgood.serving.gateway.rollouts.installer import Installer
from lastgood.serving.gateway.rollouts.journal import Entry, Journal
from lastgood.serving.gateway.rollouts.record import ACTOR, Burial, Note, SharedRecord, Stored
from lastgood.serving.gateway.rollouts.state import Change, ModelState, Taking, withdraw
from lastgood.serving.rollout.table import Cause, Pin

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a version goes: the cause, who says so, in words, and what an event keeps beside (a receipt, an alert)."""

    cause: Cause
    actor: str
    why: str
    tombstone: bool = True
    payload: Mapping[str, Any] = field(default_factory=dict)


class Withdrawals:
    """The only way a version leaves the route."""

    def __init__(
        self, book: Book, record: SharedRecord, journal: Journal, installer: Installer, *, on_recorded: Callable[[Held], None]
    ) -> None:
        """
        Remember what is switched, and where decisions are written.

        Args:
            book: The models.
            record: The shared record.
            journal: The local one.
            installer: Puts routes in place.
            on_recorded: Called when the shared record holds a withdrawal.
        """
        self._on_recorded = on_recorded
        self._decided: set[str] = set()  # incidents because of which something was taken out here
        self._book = book
        self._record = record
        self._journal = journal
        self._installer = installer

    def count_unrecorded(self, model: str | None = None) -> int:
        """Count decisions, or those about a model, that the shared record does not hold yet."""
        return sum(model in {None, entry.model} for entry in self._journal.open_entries)

    def apply_journal(self) -> None:
        """On start, before anything serves: take out what was taken out when the gateway died."""
        for entry in self._journal.open_entries:
            if entry.tombstone and entry.model not in self._book.held:
                self._book.vetoed.add(entry.digest)
        tombstones = frozenset(self._book.vetoed)
        for held in self._book.held.values():
            held.state = self._apply_open_entries(held.state, tombstones)

    def record_journal(self) -> None:
        """On start: begin to write what the shared record may lack."""
        for entry in self._journal.open_entries:
            self._book.spawn(self._write(entry))

    def take(self, model: str, pin: Pin, reason: Reason, *, target: Pin | None = None) -> bool:
        """
        Take a version out, now.

        Args:
            model: Which model.
            pin: Which of its versions.
            reason: Why, and whether it may come back.
            target: The version that shall serve instead, ready; default: the fallback.

        Returns:
            Whether anything changed. A version that serves nothing, that was taken out because of this before, or that nothing
            can replace, stays as it is; of the last a person is told.
        """
        held = self._book.held[model]
        incident = _name_incident(held.state, pin, reason)
        if incident in self._decided:
            return False  # it may be back because a person said so, or because another gateway knew better
        entry = Entry(
            id=uuid.uuid4().hex,
            time=datetime.now(UTC).isoformat(),
            model=model,
            number=pin.number,
            digest=pin.digest,
            cause=reason.cause,
            tombstone=reason.tombstone,
            actor=reason.actor,
            why=reason.why,
            payload={"generation": held.generation, **reason.payload},
            target=asdict(target) if target else None,
            incident=incident,
            since=_since(held.state, pin, reason),
        )
        change = withdraw(held.state, self._taking(entry))
        if change.state is held.state:
            if change.page and reason.cause != "person":  # whoever asked is told by the answer
                self.page(held, change.page)
            return False
        if reason.tombstone:
            self._book.vetoed.add(pin.digest)
        if incident:
            self._decided.add(incident)
        held.state, held.reason = change.state, reason.why
        self._installer.install(held, self._book.vetoed)
        try:
            self._journal.append(entry)
        except OSError as exc:
            # The disk is full or gone. The version is out all the same, and the shared record may still take it.
            self.page(held, f"The local journal cannot be written ({exc}); if the gateway ends now it may forget a withdrawal.")
        self._book.tallies["withdrawals", model, reason.cause] += 1
        log.warning("withdrawn", model=model, version=pin.number, cause=reason.cause, why=reason.why)
        if change.page:
            self.page(held, change.page)
        self._book.spawn(self._write(entry))
        self._book.tell()
        return True

    async def settle(self, model: str | None = None) -> None:
        """Return when every decision, or every one about the model, is in the shared record."""
        while self.count_unrecorded(model):
            await self._book.wait_for_news(1)

    def page(self, held: Held, text: str) -> None:
        """Tell a person, once for as long as it is the same."""
        if held.paged == text:
            return
        held.paged = text
        model = held.state.model
        self._book.tallies["pages", model] += 1
        log.error("a person is needed", model=model, why=text)
        note = Note("page", None, ACTOR, {"why": text}, idempotency=uuid.uuid4().hex)
        self._book.spawn(self._record.insist(lambda: self._record.append(model, [note]), what="page", model=model))
        self._book.tell()

    def _apply_open_entries(self, state: ModelState, tombstones: Collection[str]) -> ModelState:
        """Give the state with what is decided and not recorded applied to it, and veto what that takes out."""
        entries = [entry for entry in self._journal.open_entries if entry.model == state.model]
        self._book.vetoed.update(entry.digest for entry in entries if entry.tombstone)
        for entry in entries:
            state = withdraw(state, self._taking(entry)).state
        for entry in entries:
            # There is nothing to go back to, or it has come in anew: a decision that cannot be carried out is no veto.
            if state.serves(entry.digest) and entry.digest not in tombstones:
                self._book.vetoed.discard(entry.digest)
        return state

    def _taking(self, entry: Entry, tombstones: Collection[str] = ()) -> Taking:
        return Taking(
            digest=entry.digest,
            cause=cast("Cause", entry.cause),
            now=datetime.fromisoformat(entry.time),
            tombstone=entry.tombstone,
            vetoed=self._book.vetoed.union(tombstones),
            target=Pin(**entry.target) if entry.target else None,
            since=entry.since,
        )

    async def record_open(self, held: Held) -> None:
        """
        Write what is decided about a model and not recorded; the caller holds its lock.

        Raises:
            LastgoodError: The record cannot be written.
        """
        for entry in self._journal.open_entries:
            if entry.model == held.state.model:
                await self._write_once(entry)

    def adopt(self, held: Held, stored: Stored) -> None:
        """Take over what the shared record has, with what is decided here and not recorded applied to it."""
        held.generation = stored.generation
        self._book.vetoed |= stored.tombstones
        held.state = self._apply_open_entries(stored.state, stored.tombstones)
        self._installer.install(held, self._book.vetoed)

    async def _write(self, entry: Entry) -> None:
        async def write() -> None:
            held = self._book.held[entry.model]
            async with held.lock:
                await self.record_open(held)

        await self._record.insist(write, what=f"withdrawal of version {entry.number}", model=entry.model)

    async def _write_once(self, entry: Entry) -> None:
        held = self._book.held[entry.model]
        stored = await self._record.load_model(entry.model, key=entry.key)
        # The same incident may have been recorded by a gateway that is dead, or by another: then it is done.
        taking = self._taking(entry, stored.tombstones)
        change = Change(stored.state) if stored.known else withdraw(stored.state, taking)
        # What goes on serving, because it has come in anew or there is nothing to go back to, is no tombstone.
        buried = entry.tombstone and not stored.known and not change.state.serves(entry.digest)
        cause = cast("Cause", entry.cause)
        burial = Burial(Pin(entry.number, entry.digest), cause, entry.actor, entry.why, entry.key) if buried else None
        payload = {"version": entry.number, "cause": entry.cause, "why": entry.why, "time": entry.time, **entry.payload}
        notes = [Note("withdrawn", entry.digest, entry.actor, payload, idempotency=entry.key)]
        if change.froze:
            notes.append(Note("frozen", entry.digest, ACTOR, {"why": change.page}, idempotency=f"{entry.key}/frozen"))
        generation = stored.generation
        if change.state is not stored.state:
            generation = await self._record.write(change, generation, notes, actor=entry.actor, why=entry.why, burial=burial)
        elif not stored.known:
            # Another change has taken the version out of the route, or it could not be taken out.
            await self._record.append(entry.model, notes, burial)
        self._journal.close_entry(entry.id)
        tombstones = stored.tombstones | {entry.digest} if buried else stored.tombstones
        if entry.digest not in tombstones:
            self._book.vetoed.discard(entry.digest)  # `adopt` adds it again where another decision is open
        if change.state.serves(entry.digest) and not stored.known:
            self._decided.discard(entry.incident)  # it could not be carried out: what goes on may be heard again
        if change.page and change.state is stored.state:
            self.page(held, change.page)
        self.adopt(held, Stored(change.state, generation, tombstones))
        self._on_recorded(held)


def _since(state: ModelState, pin: Pin, reason: Reason) -> str | None:
    """Say since when the version served that is decided about; an alert speaks of what served when it began."""
    alert = reason.payload.get("alert") if reason.cause == "alert" else None
    return alert["began"] if alert else state.episodes.get(pin.digest)


def _name_incident(state: ModelState, pin: Pin, reason: Reason) -> str:
    """
    Name what a version goes because of, alike at every gateway that decides it.

    A rollout is convicted once, and an alert is one from its begin to its end. What a person says is an incident of its own.
    """
    if reason.cause == "judge" and state.running is not None:
        return f"judge/{state.running.id}"
    if reason.cause == "alert" and (alert := reason.payload.get("alert")):
        return f"alert/{alert['alert']}/{alert['began']}/{pin.digest}"[:500]
    return ""
