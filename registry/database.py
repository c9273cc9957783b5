"""
The catalogue's database: one engine, two kinds of transaction, and every foreign error turned into ours.

A transaction that writes takes the write lock when it begins, so that what it reads cannot change before it writes, and events get their
positions in the order they are committed; `engines` says how.
"""

import fcntl
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select
from sqlalchemy import exc as foreign

from lastgood.registry import engines, migrations, schema
from lastgood.registry.errors import CatalogueUnsupportedError
from lastgood.registry.store.objects import sync

_LOG = logging.getLogger(__name__)
_NOTHING = "0"  # the format of a database without our tables


class Database:
    """The open catalogue of one process; threads may share it."""

    def __init__(self, url: str, *, lock: Path) -> None:
        """
        Connect, create the tables where there are none, and bring those of an older lastgood to this one's format.

        Args:
            url: SQLAlchemy's URL of the database.
            lock: A file in an existing folder; whoever creates or changes the tables holds it.

        Raises:
            CatalogueUnsupportedError: The URL cannot be used, or the tables are of a newer format.
            CatalogueUnavailableError: The database does not answer.
            CatalogueDamagedError: The database file is not one.
        """
        self._url = engines.parse_url(url)
        self.name = engines.show_url(self._url)
        self._engine = engines.connect(self._url)
        try:
            # SQLite cannot be switched to its write-ahead log by two processes at once.
            with lock.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._prepare()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the catalogue throughout."""
        with self._seam(), engines.open_reading(self._engine) as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection that holds the write lock; everything is committed at the end, or nothing at an error."""
        with self._seam(), engines.open_writing(self._engine) as connection, connection.begin():
            engines.lock(connection)
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _prepare(self) -> None:
        with self.reading() as connection:
            found = _find_format(connection)
        if _is_older(found):
            # The file's lock is this machine's; the write lock is everybody's, and who waited for it may find the work done.
            with self.writing() as connection:
                found = _find_format(connection)
                if found == _NOTHING:
                    self._create(connection)
                elif _is_older(found):
                    self._upgrade(connection, str(found))
                found = _find_format(connection)
        if found != schema.FORMAT:
            raise CatalogueUnsupportedError(
                f"The catalogue {self.name} is of format {found!r}; this lastgood reads {schema.FORMAT!r}. Use the lastgood that wrote it."
            )

    def _create(self, connection: Connection) -> None:
        if taken := sorted(schema.metadata.tables.keys() & inspect(connection).get_table_names()):
            raise CatalogueUnsupportedError(
                f"The database {self.name} has a table {taken[0]!r} that is not lastgood's; expected an empty database. Give it one."
            )
        schema.metadata.create_all(connection, checkfirst=False)
        connection.execute(insert(schema.meta).values(key="format", value=schema.FORMAT))

    def _upgrade(self, connection: Connection, found: str) -> None:
        kept = self._copy(connection, found) if self._engine.dialect.name == "sqlite" else None
        migrations.upgrade(connection, int(found))
        before = f"what it was before is kept in {kept}" if kept else "its backups are the server's"
        _LOG.warning("The catalogue %s is brought from format %s to %s; %s.", self.name, found, schema.FORMAT, before)

    def _copy(self, connection: Connection, found: str) -> Path | None:
        """Copy SQLite's file beside it while nobody else writes; give the copy, None of a database in memory."""
        path = str(connection.exec_driver_sql("PRAGMA database_list").one()[2])
        if not path:
            return None
        kept, fresh = Path(f"{path}.format-{found}"), Path(f"{path}.format-{found}.partial")
        fresh.unlink(missing_ok=True)
        # Through connections of their own: the one that holds the lock cannot be copied from.
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(fresh)) as target:
            source.backup(target)
        sync(fresh)
        fresh.replace(kept)
        sync(kept.parent)
        return kept

    @contextmanager
    def _seam(self) -> Iterator[None]:
        try:
            yield
        except foreign.DBAPIError as exc:
            ours = engines.translate(exc.orig, self.name)
            if ours is None:
                raise  # a constraint we should not have broken: a bug, with its traceback
            raise ours from exc
        except (sqlite3.Error, foreign.TimeoutError) as exc:  # from connecting, which SQLAlchemy does not wrap; from a pool in full use
            raise (engines.translate(exc, self.name) or exc) from exc


def _find_format(connection: Connection) -> str | None:
    if not inspect(connection).has_table(schema.meta.name):
        return _NOTHING
    return connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "format")).scalar()


def _is_older(found: str | None) -> bool:
    return found is not None and found.isdecimal() and int(found) < int(schema.FORMAT)
