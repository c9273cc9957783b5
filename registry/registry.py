"""
The registry: which versions exist, which bytes they are, and everything that happened to them.

    with Registry.open(load_settings(), writer="cli") as registry:
        version = registry.resolve("digits@live")
        registry.materialize(version.digest, Path("cache", version.digest))
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from sqlalchemy import Connection

from lastgood.refs import LATEST, Ref
from lastgood.registry import catalogue
from lastgood.registry import materialize as folders
from lastgood.registry import verify as checks
from lastgood.registry.audit import Piece, check_piece
from lastgood.registry.chain import Checked
from lastgood.registry.collect import RECENT_SECONDS, Collected, Collection
from lastgood.registry.content import Content, Record
from lastgood.registry.database import Database
from lastgood.registry.errors import ReservedAliasError
from lastgood.registry.events import Event, check_text, check_writer
from lastgood.registry.log import Clock, utc_now
from lastgood.registry.reader import Reader
from lastgood.registry.registration import Registration
from lastgood.registry.rows import Version
from lastgood.registry.store.stored_file import StoredFile
from lastgood.registry.stored import StoredFiles
from lastgood.registry.transaction import ANY, Expectation, Transaction
from lastgood.settings import Settings

if TYPE_CHECKING:
    from lastgood.registry.archive import About

ROLLOUT_ALIASES: Final = frozenset({"live", "stable"})  # only a rollout moves them


class Registry(Reader):
    """The catalogue and the file store of one installation; threads may share it."""

    def __init__(self, database: Database, files: StoredFiles, *, writer: str, clock: Clock = utc_now) -> None:
        """Use an open database and stored files; `open` makes both from the settings."""
        super().__init__(database)
        self._files = files
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
            KeyUnusableError: The encryption key is none; whether it is the one that files are encrypted under shows when they are used.
        """
        folder = settings.home / "registry"
        check_writer(writer)
        folder.mkdir(parents=True, exist_ok=True)
        database = Database(settings.database_url, lock=folder / "lock")
        try:
            return cls(database, StoredFiles(settings, database.writing), writer=writer, clock=clock)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Close the catalogue."""
        self._database.close()

    def __enter__(self) -> Self:
        """Give the registry itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        """Close the catalogue."""
        self.close()

    def materialize(self, digest: str, folder: Path) -> Path:
        """
        Make a folder hold exactly a version's files, as verified copies; it appears whole or not at all.

        Raises:
            VersionNotFoundError: No version has this digest.
            IntegrityError: A stored file is gone or damaged, or the content was changed.
            FolderNotEmptyError: The folder holds something that is not the version's.
        """
        return folders.materialize(self.content(digest), self._files.store, folder)

    def copy_files(self, digest: str, folder: Path) -> None:
        """Copy a version's files into an existing folder, verified; errors as `materialize`, except that what is there stays."""
        folders.copy_files(self.content(digest), self._files.store, folder)

    def fetch_weights(self, digest: str, destination: Path) -> bool:
        """
        Copy the weights that a version was trained to into a new file; give False where none are kept.

        Raises:
            IntegrityError: They are gone or damaged.
            FileExistsError: The destination is there.
        """
        with self._database.reading() as connection:
            kept = catalogue.weights_of(connection, digest)
        if kept:
            self._files.store.fetch(kept[0].sha256, destination)
        return bool(kept)

    def open_files(self, digest: str) -> dict[str, StoredFile]:
        """
        Give a version's files by path, to read parts of without copying them.

        Raises:
            VersionNotFoundError: No version has this digest.
            IntegrityError: A stored file is gone or damaged, or the content was changed.
        """
        return folders.open_files(self.content(digest), self._files.store)

    def verify(self, ref: Ref | str | None = None) -> checks.VerifyReport:
        """Check the log, the tables derived from it, and the stored bytes of one version or of all."""
        digest = None if ref is None else self.resolve(ref).digest
        return checks.verify(self._database.reading, self._files.store, digest)

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
            yield self._begin(connection)

    def register(
        self, model: str, content: Content, files: Mapping[str, Path], record: Record, *, actor: str, weights: Path | None = None
    ) -> Version:
        """
        Make files an immutable version: their bytes are stored first, then one transaction makes them known.

        Args:
            model: The model's name.
            content: What the digest is taken of; lists every file.
            files: Where each listed file is now, by its path in the content.
            record: What is said about the version.
            actor: Who registers it.
            weights: A file with what it was trained to, kept beside its content for `fetch_weights`.

        Returns:
            The new version, or the one the model has of this digest (``new`` is False).

        Raises:
            DigestTombstonedError: The digest was taken out as bad.
            ContentMismatchError: The files are not the ones listed.
            InvalidSourceError: A file cannot be read, or has a name that is reserved.
            InvalidEventError: The record is not JSON.
        """
        registration = Registration(self._database, self._files.store, model, content, files, weights)
        return registration.run(record, actor=actor, begin=self._begin)

    def collect(
        self,
        *,
        actor: str,
        dry_run: bool = False,
        recent_seconds: float = RECENT_SECONDS,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Collected:
        """Remove stored objects that no version needs and that were not written just now; see `Collection.run`."""
        collection = Collection(self._database, self._files.store, writer=self._writer, clock=self._clock, recent_seconds=recent_seconds)
        return collection.run(actor=actor, dry_run=dry_run, on_progress=on_progress)

    def rotate_key(self, fresh: Path) -> None:
        """Encrypt stored files under the key in a file from now on; errors as `keys.rotate`."""
        self._files.rotate(fresh)

    def backup(self, file: Path, *, actor: str, on_progress: Callable[[int, int], None] | None = None) -> "About":
        """Write all of the registry into a new file, while others write; errors as `write_backup`."""
        from lastgood.registry.backup import write_backup

        about = write_backup(self._database, self._files.store, file, clock=self._clock, on_progress=on_progress)
        self._append("backed-up", actor, {"position": about.position, "hash": about.hash, "objects": about.objects})
        return about

    def restore(self, file: Path, *, actor: str, on_progress: Callable[[int, int], None] | None = None) -> "About":
        """Make this registry, in which nothing happened yet, what a backup holds; errors as `read_backup`."""
        from lastgood.registry.restore import read_backup

        about = read_backup(self._database, self._files.objects, self._files.key, file, on_progress=on_progress)
        self._append("restored", actor, {"position": about.position, "hash": about.hash, "time": about.time})
        return about

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

    def _append(self, kind: str, actor: str, payload: Mapping[str, object]) -> None:
        with self.transaction() as transaction:
            transaction.append(kind, model=None, digest=None, actor=actor, payload=payload)

    def _begin(self, connection: Connection) -> Transaction:
        return Transaction(connection, writer=self._writer, clock=self._clock)
