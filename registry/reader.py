"""What the catalogue of one installation answers, without changing anything."""

from datetime import datetime

from lastgood.refs import Ref, check_model_name, parse_ref
from lastgood.registry import catalogue, history
from lastgood.registry import resolve as refs
from lastgood.registry.content import Content, Record
from lastgood.registry.cooldown import Cooldown, find_cooldown
from lastgood.registry.database import Database
from lastgood.registry.events import Event
from lastgood.registry.rows import Alias, Moment, Notes, StoredRoute, Tombstone, Version


class Reader:
    """The half of `lastgood.registry.registry.Registry` that reads the catalogue; threads may share it."""

    def __init__(self, database: Database) -> None:
        """Read this one."""
        self._database = database

    def models(self) -> list[str]:
        """Give the names of all models, sorted."""
        with self._database.reading() as connection:
            return catalogue.model_names(connection)

    def versions(self, model: str) -> list[Version]:
        """Give a model's versions, oldest first; ModelNotFoundError when it has none."""
        with self._database.reading() as connection:
            return refs.require_versions(connection, check_model_name(model))

    def resolve(self, ref: Ref | str) -> Version:
        """
        Give the version a reference names: by number, alias, digest prefix, or a model's newest.

        Raises:
            NotFoundError: It names nothing; the message says what is near.
            AmbiguousDigestError: Several digests start so.
            InvalidRefError: The text is no reference.
        """
        parsed = parse_ref(ref) if isinstance(ref, str) else ref
        with self._database.reading() as connection:
            return refs.resolve(connection, parsed)

    def content(self, digest: str) -> Content:
        """Give a digest's content, verified against it; VersionNotFoundError when no version has it."""
        with self._database.reading() as connection:
            return catalogue.content_of(connection, digest)

    def record(self, digest: str, *, model: str | None = None) -> Record:
        """Give what was said when the digest was first registered, in one model or in any; VersionNotFoundError when no version has it."""
        with self._database.reading() as connection:
            return catalogue.record_of(connection, digest, model)

    def notes(self, digest: str) -> Notes:
        """Give the description and tags a digest got after it was registered."""
        with self._database.reading() as connection:
            return catalogue.notes_of(connection, digest)

    def next_number(self, model: str) -> int:
        """Give the number the model's next version gets; 1 for an unknown model."""
        with self._database.reading() as connection:
            return catalogue.next_number(connection, check_model_name(model))

    def find_cooldown(self, model: str, *, commit: str | None, data: str | None, seconds: float, now: datetime) -> Cooldown | None:
        """Give the newest automatic withdrawal of the same commit and data within so many seconds; see `cooldown`."""

        def find_number(digest: str) -> int:
            return self.resolve(f"{model}@{digest}").number

        return find_cooldown(self.tombstones(), self.record, find_number, model, commit=commit, data=data, seconds=seconds, now=now)

    def aliases(self, model: str) -> dict[str, Alias]:
        """Give a model's aliases by name."""
        with self._database.reading() as connection:
            return catalogue.aliases_of(connection, model)

    def tombstones(self) -> dict[str, Tombstone]:
        """Give the tombstones that nobody lifted, by digest."""
        with self._database.reading() as connection:
            return catalogue.tombstones(connection)

    def events(self, *, model: str | None = None, after: int = 0, limit: int | None = None, newest_first: bool = False) -> list[Event]:
        """Give the events behind a position, of one model or of all."""
        with self._database.reading() as connection:
            return list(catalogue.list_events(connection, model=model, after=after, limit=limit, newest_first=newest_first))

    def event(self, name: str) -> Event:
        """Give the event at a position, or the one whose hash starts so; EventNotFoundError otherwise."""
        with self._database.reading() as connection:
            return catalogue.find_event(connection, name)

    def knows(self, key: str) -> bool:
        """Say whether an event has this idempotency key."""
        with self._database.reading() as connection:
            return catalogue.has_key(connection, key)

    def at(self, model: str, when: datetime) -> Moment:
        """Give who was live and who was stable at an aware time; ModelNotFoundError when the model is unknown."""
        with self._database.reading() as connection:
            return history.find_moment(connection, check_model_name(model), when)

    def route(self, model: str) -> StoredRoute | None:
        """Give a model's row of the route table."""
        with self._database.reading() as connection:
            return catalogue.route_of(connection, model)

    def routes(self) -> list[StoredRoute]:
        """Give the route table, by model."""
        with self._database.reading() as connection:
            return catalogue.all_routes(connection)
