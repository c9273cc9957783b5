"""Appending to the event log: the next position, the writer's chain, the anchor to everybody else's."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from lastgood.registry.errors import KeyReusedError
from lastgood.registry.events import Event, check_kind, check_text, encode_payload, format_time, hash_fields, read_event
from lastgood.registry.schema import events, writers

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Give the time, aware, in UTC."""
    return datetime.now(UTC)


class Log:
    """The log as one writer appends to it, on a connection that holds the write lock."""

    def __init__(self, connection: Connection, *, writer: str, clock: Clock = utc_now) -> None:
        """Append to the writer's chain, with times from the clock."""
        self._connection = connection
        self._writer = writer
        self._clock = clock

    def find(self, key: str, kinds: Collection[str], model: str | None, digest: str | None) -> Event | None:
        """
        Give the event that has an idempotency key.

        Raises:
            KeyReusedError: It is of no such kind, or about another model or digest.
        """
        query = select(events).where(events.c.idempotency == check_text(key, "idempotency key"))
        row = self._connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        event = read_event(row)
        if event.kind not in kinds or (event.model, event.digest) != (model, digest):
            raise KeyReusedError(
                f"The key {key!r} belongs to event {event.position} ({event.kind}, {event.model}, {event.digest}); "
                f"it cannot also name {' or '.join(sorted(kinds))}, {model}, {digest}. Use a new key."
            )
        return event

    def append(
        self,
        kind: str,
        *,
        model: str | None,
        digest: str | None,
        actor: str,
        payload: Mapping[str, Any],
        idempotency: str | None = None,
    ) -> Event:
        """
        Append an event; the key, if any, was looked for with `find`.

        Raises:
            InvalidEventError: A text is empty or too long, or the payload is not JSON.
        """
        newest = self._connection.execute(select(events).order_by(events.c.position.desc()).limit(1)).one_or_none()
        head = self._connection.execute(select(writers).where(writers.c.writer == self._writer)).one_or_none()
        now = format_time(self._clock())
        fields: dict[str, Any] = {
            "position": 1 if newest is None else newest.position + 1,
            "writer": self._writer,
            "sequence": 1 if head is None else head.sequence + 1,
            "time": now if newest is None else max(now, newest.time),  # a clock that was set back does not reorder history
            "kind": check_kind(kind),
            "model": model,
            "digest": digest,
            "actor": check_text(actor, "actor"),
            "payload": encode_payload(payload),
            "idempotency": None if idempotency is None else check_text(idempotency, "idempotency key"),
            "previous": None if head is None else head.hash,
            "anchor": None if newest is None else newest.hash,
        }
        fields["hash"] = hash_fields(fields)
        self._connection.execute(insert(events).values(**fields))
        values = {"sequence": fields["sequence"], "hash": fields["hash"]}
        if head is None:
            self._connection.execute(insert(writers).values(writer=self._writer, **values))
        else:
            self._connection.execute(update(writers).where(writers.c.writer == self._writer).values(**values))
        return read_event(fields)
