"""What the catalogue holds: the queries, each on a connection, so that one transaction can ask several."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, select

from lastgood.registry import schema
from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.errors import CatalogueDamagedError, EventNotFoundError, VersionNotFoundError
from lastgood.registry.events import Event, decode_payload, parse_time, read_event
from lastgood.registry.rows import Alias, Notes, StoredRoute, Tombstone, Version
from lastgood.registry.weights import read_weights

PREFIX_MIN: Final = 6  # hex digits of an event's hash a person must give
_POSITION_DIGITS_MAX: Final = 15
_events, _versions = schema.events, schema.versions


def model_names(connection: Connection) -> list[str]:
    """Give the names of all models, sorted."""
    return list(connection.scalars(select(_versions.c.model).distinct().order_by(_versions.c.model)))


def versions_of(connection: Connection, model: str) -> list[Version]:
    """Give a model's versions, oldest first; none when it is unknown."""
    rows = connection.execute(select(_versions).where(_versions.c.model == model).order_by(_versions.c.number))
    return [_version(row) for row in rows]


def versions_like(connection: Connection, digest: str, model: str | None = None) -> list[Version]:
    """Give the versions whose digest starts so, in the order they were registered."""
    # Not LIKE: its case rules differ between databases. "g" is what follows the last hex digit.
    query = select(_versions).where(_versions.c.digest >= digest, _versions.c.digest < digest + "g").order_by(_versions.c.position)
    if model is not None:
        query = query.where(_versions.c.model == model)
    return [_version(row) for row in connection.execute(query)]


def version_of(connection: Connection, model: str, digest: str) -> Version | None:
    """Give the model's version with this whole digest."""
    row = connection.execute(select(_versions).where(_versions.c.model == model, _versions.c.digest == digest)).one_or_none()
    return None if row is None else _version(row)


def next_number(connection: Connection, model: str) -> int:
    """Give the number the model's next version gets."""
    newest = connection.scalar(select(func.max(_versions.c.number)).where(_versions.c.model == model))
    return (newest or 0) + 1


def content_of(connection: Connection, digest: str) -> Content:
    """
    Give a digest's content, verified against it.

    Raises:
        VersionNotFoundError: No version has this digest.
        IntegrityError: It was changed.
    """
    text = connection.scalar(select(schema.contents.c.content).where(schema.contents.c.digest == digest))
    if text is None:
        raise VersionNotFoundError(f"No version has the digest {digest[:80]!r}; `lastgood list` shows what is registered.")
    return Content.from_bytes(text.encode(), digest=digest)


def record_of(connection: Connection, digest: str, model: str | None) -> Record:
    """
    Give what was said about a digest when it was first registered, in one model or in any.

    Raises:
        VersionNotFoundError: No version has this digest, or none of this model.
        CatalogueDamagedError: The event holds no such record.
    """
    query = select(_events).where(_events.c.kind == "registered", _events.c.digest == digest).order_by(_events.c.position).limit(1)
    if model is not None:
        query = query.where(_events.c.model == model)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise VersionNotFoundError(f"No version has the digest {digest[:80]!r}; `lastgood list` shows what is registered.")
    event = read_event(row)
    try:
        return msgspec.convert(event.payload["record"], Record)
    except (KeyError, msgspec.ValidationError) as exc:
        raise CatalogueDamagedError(f"Event {event.position} registered {digest} without a readable record: {exc!r}.") from exc


def weights_of(connection: Connection, digest: str | None = None, *, after: int = 0) -> list[FileEntry]:
    """Give the weights that were kept when a digest, or any, was registered behind a position of the log; the first ones first."""
    query = select(_events).where(_events.c.kind == "registered", _events.c.position > after).order_by(_events.c.position)
    if digest is not None:
        query = query.where(_events.c.digest == digest)
    found = []
    for row in connection.execute(query).mappings():
        event = read_event(row)
        try:
            weights = read_weights(event.payload)
        except (KeyError, TypeError, ValueError) as exc:
            raise CatalogueDamagedError(
                f"Event {event.position} says of the weights of {event.digest} what cannot be read: {exc!r}."
            ) from exc
        if weights is not None:
            found.append(weights)
    return found


def aliases_of(connection: Connection, model: str) -> dict[str, Alias]:
    """Give a model's aliases by name."""
    rows = connection.execute(select(schema.aliases).where(schema.aliases.c.model == model).order_by(schema.aliases.c.name))
    return {row.name: Alias(row.name, row.digest, row.number, parse_time(row.since)) for row in rows}


def tombstones(connection: Connection) -> dict[str, Tombstone]:
    """Give the tombstones that nobody lifted, by digest."""
    rows = connection.execute(select(schema.tombstones).order_by(schema.tombstones.c.digest))
    return {row.digest: _tombstone(row) for row in rows}


def tombstone_of(connection: Connection, digest: str) -> Tombstone | None:
    """Give a digest's tombstone, if it has one."""
    row = connection.execute(select(schema.tombstones).where(schema.tombstones.c.digest == digest)).one_or_none()
    return None if row is None else _tombstone(row)


def route_of(connection: Connection, model: str) -> StoredRoute | None:
    """Give a model's row of the route table."""
    row = connection.execute(select(schema.routes).where(schema.routes.c.model == model)).one_or_none()
    return None if row is None else StoredRoute(row.model, row.generation, decode_payload(row.body))


def all_routes(connection: Connection) -> list[StoredRoute]:
    """Give the route table, by model."""
    rows = connection.execute(select(schema.routes).order_by(schema.routes.c.model))
    return [StoredRoute(row.model, row.generation, decode_payload(row.body)) for row in rows]


def notes_of(connection: Connection, digest: str) -> Notes:
    """Give what people said about a digest after it was registered: the newest description, and tags in order."""
    description: str | None = None
    tags: dict[str, None] = {}
    query = select(_events).where(_events.c.kind.in_(["described", "tagged"]), _events.c.digest == digest).order_by(_events.c.position)
    for event in map(read_event, connection.execute(query).mappings()):
        if event.kind == "described":
            description = str(event.payload["text"])
        else:
            tags[str(event.payload["tag"])] = None
    return Notes(description, tuple(tags))


def list_events(connection: Connection, *, model: str | None, after: int, limit: int | None, newest_first: bool) -> Iterator[Event]:
    """Give events behind a position, of one model or of all."""
    order = _events.c.position.desc() if newest_first else _events.c.position
    query = select(_events).where(_events.c.position > after).order_by(order)
    if model is not None:
        query = query.where(_events.c.model == model)
    if limit is not None:
        query = query.limit(limit)
    return map(read_event, connection.execute(query).mappings())


def has_key(connection: Connection, key: str) -> bool:
    """Say whether an event has this idempotency key."""
    return connection.scalar(select(_events.c.position).where(_events.c.idempotency == key)) is not None


def find_event(connection: Connection, name: str) -> Event:
    """
    Give the event at a position, or the one whose hash starts so (6 hex digits or more).

    Raises:
        EventNotFoundError: There is none, or several.
    """
    name = name.strip().lower()
    if name.isascii() and name.isdigit() and len(name) <= _POSITION_DIGITS_MAX:
        row = connection.execute(select(_events).where(_events.c.position == int(name))).mappings().one_or_none()
        if row is not None:
            return read_event(row)
    if len(name) >= PREFIX_MIN and set(name) <= set("0123456789abcdef"):
        rows = connection.execute(select(_events).where(_events.c.hash >= name, _events.c.hash < name + "g").limit(2)).mappings().all()
        if len(rows) == 1:
            return read_event(rows[0])
        if rows:
            raise EventNotFoundError(f"Several events have a hash that starts with {name}; give more of it.")
    raise EventNotFoundError(
        f"No event {name[:80]!r}: expected a position (`lastgood log` shows them) or the first {PREFIX_MIN} or more hex digits of a hash."
    )


def _version(row: Row[Any]) -> Version:
    return Version(row.model, row.number, row.digest, parse_time(row.created), row.created_by)


def _tombstone(row: Row[Any]) -> Tombstone:
    return Tombstone(row.digest, row.id, row.model, row.cause, row.why, row.actor, parse_time(row.time))
