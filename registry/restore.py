"""A registry from its backup, in an empty place: objects first, then one transaction makes everything known."""

import re
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table, func, insert, select

from lastgood.errors import IntegrityError
from lastgood.registry import archive, keys, schema
from lastgood.registry.archive import TOLD_EACH, About
from lastgood.registry.content import Content
from lastgood.registry.database import Database
from lastgood.registry.errors import BackupDamagedError, KeyMissingError, NotEmptyError
from lastgood.registry.events import read_event
from lastgood.registry.projections import Projections
from lastgood.registry.store import manifest, segments
from lastgood.registry.store.objects import SEALED, Objects

_ROWS_EACH: Final = 1000
_KEPT: Final = f"({manifest.FOLDER}|{segments.FOLDER})"
_NAME: Final = re.compile(
    f"{_KEPT}/[0-9a-f]{{2}}/[0-9a-f]{{62}}|{SEALED}/{_KEPT}/[0-9a-f]{{2}}/[0-9a-f]{{94}}|{keys.FOLDER}/[0-9a-f]{{16}}"
)


def read_backup(
    database: Database, objects: Objects, key: bytes | None, file: Path, *, on_progress: Callable[[int, int], None] | None = None
) -> About:
    """
    Restore a backup; where this is interrupted, nothing is known of it, and it can be done again.

    Args:
        database: An empty catalogue.
        objects: Where files are to be kept, as they are kept.
        key: The installation's, where the backup is of an encrypted registry.
        file: From `lastgood.registry.backup.write_backup`.
        on_progress: Is told how many objects are read, of how many.

    Raises:
        NotEmptyError: Something happened in this registry already.
        KeyMissingError: The backup is of an encrypted registry, and there is no key.
        BackupDamagedError: The file is no whole backup.
    """
    with database.reading() as connection:
        _refuse_full(connection, database.name)
    try:
        source = file.open("rb")
    except OSError as exc:
        raise BackupDamagedError(f"{file} cannot be read: {exc.strerror}.") from exc
    with source, tempfile.TemporaryDirectory(prefix="lastgood-") as name:
        reader, folder = archive.Reader(source, str(file)), Path(name)
        if reader.about.encrypted and key is None:
            raise KeyMissingError(f"{file} is of an encrypted registry: set encryption_key_file, or {keys.VARIABLE}, to its key first.")
        events, writers, contents = (reader.copy(own, folder) for own in (archive.EVENTS, archive.WRITERS, archive.CONTENTS))
        for index, (own, data) in enumerate(reader.read_objects()):
            if on_progress is not None and index % TOLD_EACH == 0:
                on_progress(index, reader.about.objects)
            if not _NAME.fullmatch(own):
                raise BackupDamagedError(f"{file} is no backup of a registry: it holds {own[:80]!r}.")
            objects.write(own, data)
        objects.settle()
        with database.writing() as connection:
            _refuse_full(connection, database.name)
            try:
                found = _insert(connection, events, writers, contents)
            except (msgspec.MsgspecError, IntegrityError, KeyError, TypeError, ValueError) as exc:
                raise BackupDamagedError(f"{file} is no backup of a registry: {exc}") from exc
            if found != (reader.about.events, reader.about.contents, reader.about.hash):
                raise BackupDamagedError(
                    f"{file} is no whole backup: it holds {found[0]} events and {found[1]} contents, and says otherwise."
                )
    return reader.about


def _refuse_full(connection: Connection, name: str) -> None:
    count = connection.scalar(select(func.count()).select_from(schema.events))
    if count:
        raise NotEmptyError(
            f"The catalogue {name} holds {count} events already, and a backup is restored into an empty place only: set LASTGOOD_HOME, "
            "database and files to where nothing is."
        )


def _insert(connection: Connection, events: Path, writers: Path, contents: Path) -> tuple[int, int, str | None]:
    """Insert everything; give how many events and contents there are, and the newest event's hash."""
    derived, count, last = Projections(), 0, None
    for rows in _split(events):
        connection.execute(insert(schema.events), rows)
        for row in rows:
            derived.apply(read_event(row))
        count, last = count + len(rows), rows[-1]["hash"]
    for rows in _split(writers):
        connection.execute(insert(schema.writers), rows)
    number = 0
    for line in archive.read_lines(contents):
        content = Content.from_bytes(line)
        connection.execute(insert(schema.contents).values(digest=content.digest, content=line.decode()))
        number += 1
    tables: list[tuple[Table, Any]] = [
        (schema.versions, derived.versions),
        (schema.aliases, derived.aliases),
        (schema.tombstones, derived.tombstones),
        (schema.routes, derived.routes),
    ]
    for table, rows_by_key in tables:
        if rows_by_key:
            connection.execute(insert(table), [dict(row) for row in rows_by_key.values()])
    return count, number, last


def _split(path: Path) -> Iterator[list[dict[str, Any]]]:
    rows = (msgspec.json.decode(line, type=dict[str, Any]) for line in archive.read_lines(path))
    while some := list(islice(rows, _ROWS_EACH)):
        yield some
