"""
The registry: which versions exist, which bytes they are, and everything that happened to them.

    with Registry.open(load_settings(), writer="cli") as registry:
        version = registry.resolve("digits@live")
        registry.materialize(version.digest, Path("cache", version.digest))
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lastgood.errors import IntegrityError
from lastgood.refs import LATEST, Ref, check_model_name, parse_ref
from lastgood.registry import catalogue, history
from lastgood.registry import materialize as folders
from lastgood.registry import resolve as refs
from lastgood.registry import verify as checks
from lastgood.registry.audit import Piece, check_piece
from lastgood.registry.chain import Checked
from lastgood.registry.content import Content, Record
from lastgood.registry.cooldown import Cooldown, find_cooldown
from lastgood.registry.database import Database
from lastgood.registry.errors import ContentMismatchError, InvalidSourceError, ReservedAliasError
from lastgood.registry.events import Event, check_text, check_writer
from lastgood.registry.log import Clock, utc_now
from lastgood.registry.rows import Alias, Moment, Notes, StoredRoute, Tombstone, Version
from lastgood.registry.store.places import open_store
from lastgood.registry.store.store import SegmentedStore
from lastgood.registry.storing import store_files
from lastgood.registry.transaction import ANY, Expectation, Transaction
from lastgood.settings import Settings

ROLLOUT_ALIASES: Final = frozenset({"live", "stable"})  # only a rollout moves them
# An exported version has files of these names beside its own.
RESERVED_FILES: Final = frozenset({"content.json", "record.json"})


class Registry:
    """The catalogue and the file store of one installation; threads may share it."""

    def __init__(self, database: Database, blobs: SegmentedStore, *, writer: str, clock: Clock = utc_now) -> None:
        """Use an open database and a file store; `open` makes both from the settings."""
        self._database = database
        self._blobs = blobs
        self._writer = check_writer(writer)
        self._clock = clock

    @classmethod
    def open(cls, settings: Settings, *, writer: str, clock: Clock = utc_now) -> Self:
        """
        Open the installation's registry, making its folders and tables where there are none, of an older format where they are.

        Args:
            settings: Where the catalogue and the files are.
            writer: The chain this process appends its events to, such as "cli" or "gateway".
            clock: Gives the time of events.

        Raises:
            CatalogueUnsupportedError: The database URL cannot be used, or its tables are of a newer format.
            CatalogueUnavailableError: The database does not answer.
            CatalogueDamagedError: The database file is not one.
            FilesUnsupportedError: The URL of the files names no place.
        """
        folder = settings.home / "registry"
        check_writer(writer)
        folder.mkdir(parents=True, exist_ok=True)
        blobs = open_store(settings.files_place)
        return cls(Database(settings.database_url, lock=folder / "lock"), blobs, writer=writer, clock=clock)

    def close(self) -> None:
        """Close the catalogue."""
        self._database.close()

    def __enter__(self) -> Self:
        """Give the registry itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        """Close the catalogue."""
        self.close()

    # Reading

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

    # Bytes

    def materialize(self, digest: str, folder: Path) -> Path:
        """
        Make a folder hold exactly a version's files, as verified copies; it appears whole or not at all.

        Raises:
            VersionNotFoundError: No version has this digest.
            IntegrityError: A stored file is gone or damaged, or the content was changed.
            FolderNotEmptyError: The folder holds something that is not the version's.
        """
        return folders.materialize(self.content(digest), self._blobs, folder)

    def copy_files(self, digest: str, folder: Path) -> None:
        """Copy a version's files into an existing folder, verified; errors as `materialize`, except that what is there stays."""
        folders.copy_files(self.content(digest), self._blobs, folder)

    def verify(self, ref: Ref | str | None = None) -> checks.VerifyReport:
        """Check the log, the tables derived from it, and the stored bytes of one version or of all."""
        digest = None if ref is None else self.resolve(ref).digest
        return checks.verify(self._database.reading, self._blobs, digest)

    def check_log(self, checked: Checked, limit: int) -> Piece:
        """Check the next events of the log behind those that were found whole; at its end, the end too."""
        with self._database.reading() as connection:
            return check_piece(connection, checked, limit)

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """
        Give a transaction: everything done through it is committed at the end, or nothing when an error leaves it.

        It holds the write lock; do not open another one inside.

        Raises:
            CatalogueUnavailableError: Another writer held the lock for too long.
        """
        with self._database.writing() as connection:
            yield Transaction(connection, writer=self._writer, clock=self._clock)

    def register(self, model: str, content: Content, files: Mapping[str, Path], record: Record, *, actor: str) -> Version:
        """
        Make files an immutable version: their bytes are stored first, then one transaction makes them known.

        Args:
            model: The model's name.
            content: What the digest is taken of; lists every file.
            files: Where each listed file is now, by its path in the content.
            record: What is said about the version.
            actor: Who registers it.

        Returns:
            The new version, or the one the model has of this digest (``new`` is False).

        Raises:
            DigestTombstonedError: The digest was taken out as bad.
            ContentMismatchError: The files are not the ones listed.
            InvalidSourceError: A file cannot be read, or has a name that is reserved.
            InvalidEventError: The record is not JSON.
        """
        check_model_name(model)
        if reserved := sorted(RESERVED_FILES & {entry.path for entry in content.files}):
            raise InvalidSourceError(f"A version cannot have a file named {reserved[0]!r}: an export writes its own. Rename it.")
        if set(files) != (listed := {entry.path for entry in content.files}):
            raise ContentMismatchError(f"The content lists {sorted(listed)}; the files given are {sorted(files)}.")
        tombstone = self.tombstones().get(content.digest)
        if tombstone is None:  # else the transaction refuses it, and nothing needs to be copied
            store_files(content, files, self._blobs, self._find_before(model, record))
        with self.transaction() as transaction:
            return transaction.register(model, content, record, actor=actor)

    def move_alias(
        self, model: str, name: str, digest: str | None, *, expected: str | Expectation | None = ANY, actor: str, why: str
    ) -> None:
        """
        Point one of the user's aliases to a version, or remove it with None.

        Raises:
            ReservedAliasError: The name is ``live``, ``stable`` or ``latest``.
            AliasMovedError: It does not point to the expected digest.
            VersionNotFoundError: The model has no such digest.
            DigestTombstonedError: The digest was taken out as bad.
        """
        if name in ROLLOUT_ALIASES | {LATEST}:
            raise ReservedAliasError(
                f"The alias {name!r} is not moved by hand: `live` and `stable` follow a rollout (lastgood deploy, promote, rollback), "
                "`latest` is the newest version."
            )
        with self.transaction() as transaction:
            transaction.move_alias(model, name, digest, actor=actor, why=why, expected=expected)

    def lift(self, digest: str, *, actor: str, why: str) -> Event:
        """Let a tombstoned digest serve again; NoTombstoneError when it is not tombstoned."""
        with self.transaction() as transaction:
            return transaction.lift(digest, actor=actor, why=why)

    def describe(self, version: Version, text: str, *, actor: str) -> Event:
        """Give a version's digest a new description."""
        with self.transaction() as transaction:
            return transaction.append("described", model=version.model, digest=version.digest, actor=actor, payload={"text": text})

    def add_tag(self, version: Version, tag: str, *, actor: str) -> Event:
        """Give a version's digest a tag."""
        with self.transaction() as transaction:
            payload = {"tag": check_text(tag, "tag")}
            return transaction.append("tagged", model=version.model, digest=version.digest, actor=actor, payload=payload)

    def _find_before(self, model: str, record: Record) -> dict[str, str]:
        """Give the SHA-256 of the files of the version that a new one comes after, by path: its parent, or the model's newest."""
        with self._database.reading() as connection:
            digest = record.parent
            if digest is None or not catalogue.versions_like(connection, digest):
                digest = next((version.digest for version in reversed(catalogue.versions_of(connection, model))), None)
            try:
                return {} if digest is None else {entry.path: entry.sha256 for entry in catalogue.content_of(connection, digest).files}
            except IntegrityError:  # then the new one stands alone, and `verify` says what is wrong with the other
                return {}
