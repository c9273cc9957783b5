"""Who held which alias at a time, from the events alone."""

from datetime import datetime

from sqlalchemy import Connection, select

from lastgood.registry import catalogue
from lastgood.registry.errors import CatalogueDamagedError
from lastgood.registry.events import Event, format_time, read_event
from lastgood.registry.resolve import require_versions
from lastgood.registry.rows import Held, Moment
from lastgood.registry.schema import events


def find_moment(connection: Connection, model: str, when: datetime) -> Moment:
    """
    Give who was live and who was stable at a time; what happened exactly then counts.

    Raises:
        ModelNotFoundError: The model is not registered.
        InvalidEventError: The time has no zone.
    """
    until = format_time(when)
    require_versions(connection, model)
    return Moment(model, when, _holder(connection, model, "live", until), _holder(connection, model, "stable", until))


def _holder(connection: Connection, model: str, name: str, until: str) -> Held | None:
    query = select(events).where(events.c.kind == "alias-moved", events.c.model == model, events.c.time <= until)
    for row in connection.execute(query.order_by(events.c.position.desc())).mappings():
        event = read_event(row)
        if event.payload.get("name") == name:
            return None if event.digest is None else _held(connection, event, event.digest)
    return None


def _held(connection: Connection, event: Event, digest: str) -> Held:
    version = catalogue.version_of(connection, str(event.model), digest)
    if version is None:
        raise CatalogueDamagedError(
            f"Event {event.position} moved an alias to {digest}, which is no version of {event.model}. Run `lastgood verify`."
        )
    query = select(events).where(events.c.kind == "tombstoned", events.c.digest == digest, events.c.position > event.position)
    row = connection.execute(query.order_by(events.c.position).limit(1)).mappings().one_or_none()
    return Held(version, event.time, event, None if row is None else read_event(row))
