"""
Everything that can be written, as one transaction: events first, and the projections they imply.

Each method appends the event and changes the table in the same breath, so that no table can say what no event
says. A key (``idempotency``) makes a call repeatable: the second call with the same key changes nothing.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from lastgood.refs import LATEST, check_model_name, parse_ref
from lastgood.registry import catalogue, schema
from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.errors import (
    AliasMovedError,
    DigestTombstonedError,
    InvalidEventError,
    NoTombstoneError,
    ReservedAliasError,
    RouteChangedError,
    VersionNotFoundError,
)
from lastgood.registry.events import Event, check_storable, check_text, encode_payload, format_time
from lastgood.registry.log import Clock, Log, utc_now
from lastgood.registry.rows import Cause, Tombstone, Version
from lastgood.registry.weights import write_weights

# Kinds that only the methods below write: tables are derived from them, or a key is remembered by them.
RESERVED: Final = frozenset({"registered", "alias-moved", "alias-unchanged", "tombstoned", "tombstone-unchanged", "lifted", "route"})


class Expectation(Enum):
    """What a caller does not ask about an alias before moving it."""

    ANY = "any"


ANY: Final = Expectation.ANY


class Transaction:
    """What is done through it is committed together when it ends, or not at all; from `Registry.transaction`."""

    def __init__(self, connection: Connection, *, writer: str, clock: Clock = utc_now) -> None:
        """Write on a connection that holds the write lock, into the writer's chain."""
        self._connection = connection
        self._writer = writer
        self._log = Log(connection, writer=writer, clock=clock)

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
        Append an event that no table is derived from.

        Args:
            kind: Lower-case words joined by ``-``.
            model: The model it is about, if it is about one.
            digest: The version it is about, if it is about one.
            actor: Who did it: a person's name or a part of lastgood.
            payload: JSON values, 1 MiB at most.
            idempotency: A key; an event with the same key is returned as it is, and nothing is appended.

        Raises:
            InvalidEventError: The kind has a method of its own, or the payload is not JSON.
            KeyReusedError: The key belongs to an event of another kind, model or digest.
        """
        if kind in RESERVED:
            raise InvalidEventError(f"Events of kind {kind!r} are written by the method that changes their table, not by append().")
        if idempotency is not None and (event := self._log.find(idempotency, {kind}, model, digest)) is not None:
            return event
        return self._log.append(kind, model=model, digest=digest, actor=actor, payload=payload, idempotency=idempotency)

    def register(self, model: str, content: Content, record: Record, *, actor: str, weights: FileEntry | None = None) -> Version:
        """
        Make a content whose files are stored a version, with its weights if they are; `Registry.register` stores them first.

        Raises:
            DigestTombstonedError: The digest was taken out as bad.
        """
        digest = content.digest
        self.refuse_tombstoned(digest)
        if (known := catalogue.version_of(self._connection, check_model_name(model), digest)) is not None:
            return known
        number = catalogue.next_number(self._connection, model)
        payload = {"number": number, "record": msgspec.to_builtins(record), **({} if weights is None else write_weights(weights))}
        event = self._log.append("registered", model=model, digest=digest, actor=actor, payload=payload)
        contents, versions = schema.contents, schema.versions
        if self._connection.scalar(select(contents.c.digest).where(contents.c.digest == digest)) is None:
            self._connection.execute(insert(contents).values(digest=digest, content=content.to_bytes().decode()))
        values = {"created": format_time(event.time), "created_by": event.actor, "position": event.position}
        self._connection.execute(insert(versions).values(model=model, number=number, digest=digest, **values))
        return Version(model, number, digest, event.time, event.actor, new=True)

    def move_alias(
        self,
        model: str,
        name: str,
        digest: str | None,
        *,
        actor: str,
        why: str,
        expected: str | Expectation | None = ANY,
        idempotency: str | None = None,
    ) -> None:
        """
        Point an alias to one of the model's versions, or to none; pointing it where it points writes nothing.

        Args:
            model: The model.
            name: The alias.
            digest: The whole digest, or None to remove the alias.
            actor: Who moves it.
            why: The reason.
            expected: The digest it must point to now (None: to nothing), or ANY.
            idempotency: A key; the same key again changes nothing.

        Raises:
            AliasMovedError: It does not point to what was expected.
            VersionNotFoundError: The model has no such digest.
            DigestTombstonedError: The digest was taken out as bad.
            ReservedAliasError: ``latest`` is always the newest version.
        """
        if name == LATEST or parse_ref(f"{model}@{name}").alias != name:
            raise ReservedAliasError(f"{name!r} cannot be moved: it names a number, a digest or the newest version.")
        if idempotency is not None and self._log.find(idempotency, {"alias-moved", "alias-unchanged"}, model, digest) is not None:
            return
        current = catalogue.aliases_of(self._connection, model).get(name)
        held = None if current is None else current.digest
        if expected is not ANY and expected != held:
            raise AliasMovedError(
                f"{model}@{name} points to {held or 'nothing'}, not to {expected or 'nothing'}: somebody moved it. Look and try again."
            )
        if digest == held:
            # With a key it must be known that this was done, or a late repetition would move the alias back.
            if idempotency is not None:
                kept = {"name": name, "why": why}
                self._log.append("alias-unchanged", model=model, digest=digest, actor=actor, payload=kept, idempotency=idempotency)
            return
        number: int | None = None
        if digest is not None:
            self.refuse_tombstoned(digest)
            version = catalogue.version_of(self._connection, model, digest)
            if version is None:
                raise VersionNotFoundError(f"{model} has no version with the digest {digest[:80]!r}; `lastgood list {model}` shows them.")
            number = version.number
        payload = {"name": name, "number": number, "from": held, "from_number": current and current.number, "why": why}
        event = self._log.append("alias-moved", model=model, digest=digest, actor=actor, payload=payload, idempotency=idempotency)
        aliases = schema.aliases
        self._connection.execute(delete(aliases).where(aliases.c.model == model, aliases.c.name == name))
        if digest is not None:
            values = {"digest": digest, "number": number, "since": format_time(event.time), "position": event.position}
            self._connection.execute(insert(aliases).values(model=model, name=name, **values))

    def tombstone(
        self,
        digest: str,
        *,
        model: str,
        cause: Cause,
        actor: str,
        why: str,
        payload: Mapping[str, Any],
        idempotency: str | None = None,
    ) -> Event:
        """
        Take a digest out as bad; a digest that is out already keeps its first tombstone.

        The event's payload is the receipt given, with ``cause`` and ``why``.

        Raises:
            VersionNotFoundError: The model has no such digest.
            InvalidEventError: The reason has a NUL, or the receipt is not JSON.
        """
        kinds = {"tombstoned", "tombstone-unchanged"}
        if idempotency is not None and (event := self._log.find(idempotency, kinds, model, digest)) is not None:
            return catalogue.find_event(self._connection, event.payload["tombstone"]) if event.kind == "tombstone-unchanged" else event
        if (known := catalogue.tombstone_of(self._connection, digest)) is not None:
            # As for aliases: a repetition that comes after a person lifted it must not take it out again.
            if idempotency is not None:
                kept = {"tombstone": known.id, "why": why}
                self._log.append("tombstone-unchanged", model=model, digest=digest, actor=actor, payload=kept, idempotency=idempotency)
            return catalogue.find_event(self._connection, known.id)
        if catalogue.version_of(self._connection, model, digest) is None:
            raise VersionNotFoundError(f"{model} has no version with the digest {digest[:80]!r}: nothing to take out.")
        whole = {**payload, "cause": cause, "why": check_storable(why, "reason")}
        event = self._log.append("tombstoned", model=model, digest=digest, actor=actor, payload=whole, idempotency=idempotency)
        row = {"id": event.hash, "model": model, "cause": cause, "why": why, "actor": event.actor, "time": format_time(event.time)}
        self._connection.execute(insert(schema.tombstones).values(digest=digest, **row))
        return event

    def lift(self, digest: str, *, actor: str, why: str) -> Event:
        """
        Let a tombstoned digest serve again.

        Raises:
            NoTombstoneError: It is not tombstoned.
        """
        known: Tombstone | None = catalogue.tombstone_of(self._connection, digest)
        if known is None:
            raise NoTombstoneError(f"{digest[:80]} is not tombstoned: there is nothing to lift.")
        payload = {"why": check_text(why, "reason"), "tombstone": known.id}
        event = self._log.append("lifted", model=known.model, digest=digest, actor=actor, payload=payload)
        self._connection.execute(delete(schema.tombstones).where(schema.tombstones.c.digest == digest))
        return event

    def write_route(
        self, model: str, body: Mapping[str, Any], *, expected: int, actor: str | None = None, idempotency: str | None = None
    ) -> int:
        """
        Replace a model's row of the route table if nobody else did since it was read.

        Args:
            model: The model.
            body: JSON values, 1 MiB at most.
            expected: The generation read; 0 where there was no row.
            actor: Who writes it; by default this writer.
            idempotency: A key; the same key again changes nothing and gives the generation written then.

        Returns:
            The new generation, ``expected + 1``.

        Raises:
            RouteChangedError: The row is of another generation.
        """
        if idempotency is not None and (event := self._log.find(idempotency, {"route"}, model, None)) is not None:
            return int(event.payload["generation"])
        routes = schema.routes
        current = self._connection.scalar(select(routes.c.generation).where(routes.c.model == check_model_name(model))) or 0
        if current != expected:
            raise RouteChangedError(
                f"The route of {model} is of generation {current}, not {expected}: somebody wrote it first. Read it again."
            )
        generation = expected + 1
        payload = {"generation": generation, "body": dict(body)}
        self._log.append("route", model=model, digest=None, actor=actor or self._writer, payload=payload, idempotency=idempotency)
        values = {"generation": generation, "body": encode_payload(body)}
        if current:
            self._connection.execute(update(routes).where(routes.c.model == model).values(**values))
        else:
            self._connection.execute(insert(routes).values(model=model, **values))
        return generation

    def refuse_tombstoned(self, digest: str) -> None:
        """Raise DigestTombstonedError where a digest was taken out as bad and not lifted."""
        if (known := catalogue.tombstone_of(self._connection, digest)) is not None:
            raise DigestTombstonedError(
                f"{digest} was taken out as bad on {format_time(known.time)} by {known.actor} ({known.cause}): {known.why} "
                f"It cannot come back under any name. To allow it: lastgood lift {digest[:19]} -m WHY"
            )
