"""Registering a version: its bytes are stored first, then one transaction makes it known, beside writers and collections alike."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from lastgood.errors import IntegrityError
from lastgood.refs import check_model_name
from lastgood.registry import catalogue, condemned
from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.database import Database
from lastgood.registry.errors import CollectionBusyError, ContentMismatchError, FileMissingError, InvalidSourceError
from lastgood.registry.hashing import hash_file
from lastgood.registry.rows import Version
from lastgood.registry.store.store import SegmentedStore
from lastgood.registry.storing import store_files
from lastgood.registry.transaction import Transaction
from lastgood.registry.weights import WEIGHTS

# An exported version has files of these names beside its own.
RESERVED_FILES: Final = frozenset({"content.json", "record.json"})
ATTEMPTS: Final = 20  # of storing files that collections remove at once, which they do to none that was written just now


class Registration:
    """One version on its way in."""

    def __init__(
        self,
        database: Database,
        store: SegmentedStore,
        model: str,
        content: Content,
        files: Mapping[str, Path],
        weights: Path | None = None,
    ) -> None:
        """
        Check what is to be registered; nothing is written yet.

        Args:
            database: The catalogue.
            store: Where bytes go.
            model: The model's name.
            content: What the digest is taken of; lists every file.
            files: Where each listed file is now, by its path in the content.
            weights: What the version was trained to, in a file that is kept beside its content.

        Raises:
            ContentMismatchError: The files are not the ones that the content lists.
            InvalidSourceError: A file has a name that is reserved, or the weights cannot be read.
        """
        self._database = database
        self._store = store
        self._model = check_model_name(model)
        self._content = content
        self._files = dict(files)
        self._entries = list(content.files)
        self._weights: FileEntry | None = None
        if weights is not None:
            sha256, size = hash_file(weights)
            self._weights = FileEntry(WEIGHTS, size, sha256)
            self._entries.append(self._weights)
            self._files[WEIGHTS] = weights
        listed = {entry.path for entry in content.files}
        if reserved := sorted(RESERVED_FILES & listed):
            raise InvalidSourceError(f"A version cannot have a file named {reserved[0]!r}: an export writes its own. Rename it.")
        if set(files) != listed:
            raise ContentMismatchError(f"The content lists {sorted(listed)}; the files given are {sorted(files)}.")

    def run(self, record: Record, *, actor: str, begin: Callable[[Connection], Transaction]) -> Version:
        """
        Store the files and make the version known.

        Args:
            record: What is said about the version.
            actor: Who registers it.
            begin: Makes a transaction on a connection that holds the write lock.

        Raises:
            DigestTombstonedError: The digest was taken out as bad.
            ContentMismatchError: A file is not the one listed.
            InvalidSourceError: A file cannot be read.
        """
        with self._database.reading() as connection:
            last = condemned.read_last(connection)
            refused = catalogue.tombstone_of(connection, self._content.digest) is not None
            before = self._find_before(connection, record)
        if refused:  # nothing needs to be copied; unless it was lifted just now
            with self._database.writing() as connection:
                begin(connection).refuse_tombstoned(self._content.digest)
        store_files(self._entries, self._files, self._store, before)
        with self._database.writing() as connection:
            if self._holds(connection, last, None):
                return begin(connection).register(self._model, self._content, record, actor=actor, weights=self._weights)
        return self._run_beside(last, record, before, actor, begin)

    def _run_beside(
        self, last: int, record: Record, before: Mapping[str, str], actor: str, begin: Callable[[Connection], Transaction]
    ) -> Version:
        """As `run`, where a collection has removed something meanwhile or is about to."""
        for attempt in range(ATTEMPTS):
            store_files(self._entries, self._files, self._store, before)
            try:
                needed = set(self._store.list_needed(entry.sha256 for entry in self._entries))
            except FileMissingError:  # it was quicker
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            with self._database.writing() as connection:
                if self._holds(connection, last, needed):
                    return begin(connection).register(self._model, self._content, record, actor=actor, weights=self._weights)
        raise CollectionBusyError(
            f"What {self._model}'s new version needs was removed {ATTEMPTS} times while it was stored: too many collections run at once. "
            "Register it again when they are through."
        )

    def _holds(self, connection: Connection, last: int, needed: set[str] | None) -> bool:
        """Say whether all that was stored is there and stays; where that takes knowing what is needed, False until it is known."""
        listed = condemned.list_since(connection, last)
        if listed is not None and not listed:
            return True
        if needed is None:
            return False
        wanted = needed if listed is None else needed & listed
        if not all(self._store.measure(name) is not None for name in wanted):
            return False
        condemned.spare(connection, wanted)
        return True

    def _find_before(self, connection: Connection, record: Record) -> dict[str, str]:
        """Give the SHA-256 of the files of the version that this one comes after, by path: its parent, or the model's newest."""
        digest = record.parent
        if digest is None or not catalogue.versions_like(connection, digest):
            digest = next((version.digest for version in reversed(catalogue.versions_of(connection, self._model))), None)
        if digest is None:
            return {}
        try:
            entries = catalogue.content_of(connection, digest).files
            return {entry.path: entry.sha256 for entry in (*entries, *catalogue.weights_of(connection, digest))}
        except IntegrityError:  # then the new one stands alone, and `verify` says what is wrong with the other
            return {}
