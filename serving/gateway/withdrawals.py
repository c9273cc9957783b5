"""
Taking away: local and immediate.

Veto, switch, one fsynced line in the journal, and only then the shared record, for as long as that takes. When
`Withdrawals.take` returns, no further request is assigned to the version, and a gateway that dies now will not give
it one when it is back.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import structlog

from lastgood.serving.gateway.book import Book, Held
from lastgood.serving.gateway.installer import Installer
from lastgood.serving.gateway.journal import Entry, Journal
from lastgood.serving.gateway.record import ACTOR, Note, SharedRecord
from lastgood.serving.gateway.state import ModelState, Taking, withdraw
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
        self._book = book
        self._record = record
        self._journal = journal
        self._installer = installer

    @property
    def unrecorded(self) -> int:
        """Decisions that the shared record does not hold yet."""
        return len(self._journal.open_entries)

    def apply_journal(self) -> None:
        """On start, before anything serves: take out what was taken out when the gateway died."""
        for entry in self._journal.open_entries:
            if entry.tombstone:
                self._book.vetoed.add(entry.digest)
            held = self._book.held.get(entry.model)
            if held is not None:
                held.state = withdraw(held.state, self._taking(entry)).state

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
            Whether anything changed. A version that serves nothing, or that nothing can replace, stays as it is; of the
            second a person is told.
        """
        held = self._book.held[model]
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
        )
        change = withdraw(held.state, self._taking(entry))
        if change.state is held.state:
            if change.page and reason.cause != "person":  # whoever asked is told by the answer
                self.page(held, change.page)
            return False
        if reason.tombstone:
            self._book.vetoed.add(pin.digest)
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
        while any(model in {None, entry.model} for entry in self._journal.open_entries):
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

    def _taking(self, entry: Entry) -> Taking:
        return Taking(
            digest=entry.digest,
            cause=cast("Cause", entry.cause),
            now=datetime.fromisoformat(entry.time),
            tombstone=entry.tombstone,
            vetoed=frozenset(self._book.vetoed),
            target=Pin(**entry.target) if entry.target else None,
        )

    async def _write(self, entry: Entry) -> None:
        async def write() -> None:
            async with self._book.held[entry.model].lock:
                await self._write_once(entry)

        await self._record.insist(write, what=f"withdrawal of version {entry.number}", model=entry.model)

    async def _write_once(self, entry: Entry) -> None:
        held = self._book.held[entry.model]
        stored, generation = await self._record.load_model(entry.model)
        change = withdraw(stored, self._taking(entry))
        payload = {"version": entry.number, "cause": entry.cause, "why": entry.why, "time": entry.time, **entry.payload}
        notes = [Note("withdrawn", entry.digest, entry.actor, payload, idempotency=entry.id)]
        if change.froze:
            notes.append(Note("frozen", entry.digest, ACTOR, {"why": change.page}, idempotency=f"{entry.id}/frozen"))
        if change.state is stored:
            # It was written before this gateway started, or another change has taken the version out of the route.
            await self._record.append(entry.model, notes)
            held.generation = generation
        else:
            cause = cast("Cause", entry.cause)
            held.generation = await self._record.write(change, generation, notes, actor=entry.actor, why=entry.why, cause=cause)
        self._journal.close_entry(entry.id)
        held.state = self._with_open_entries(change.state)
        self._installer.install(held, self._book.vetoed)
        self._on_recorded(held)

    def _with_open_entries(self, state: ModelState) -> ModelState:
        for entry in self._journal.open_entries:
            if entry.model == state.model:
                state = withdraw(state, self._taking(entry)).state
        return state
