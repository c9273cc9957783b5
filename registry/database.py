"""
The catalogue's database: one engine, two kinds of transaction, and every foreign error turned into ours.

A transaction that writes takes the write lock when it begins (``BEGIN IMMEDIATE`` on SQLite, an advisory lock on
PostgreSQL), so that what it reads cannot change before it writes, and events get their positions in the order
they are committed.
"""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text
from sqlalchemy import exc as foreign
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import ConnectionPoolEntry

from lastgood.errors import LastgoodError
from lastgood.registry import schema
from lastgood.registry.errors import CatalogueDamagedError, CatalogueUnavailableError, CatalogueUnsupportedError

BUSY_SECONDS: Final = 30  # how long a writer waits for the ones before it
CACHE_KIB: Final = 256  # pages that each connection keeps; what is not among them lies in the system's own cache
LOCK_KEY: Final = 0x6C617374  # "last", PostgreSQL's advisory lock of the writers
_WRITES: Final = "lastgood_writes"
# SQLite's result codes that mean the file itself is bad: https://www.sqlite.org/rescode.html
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Database:
    """The open catalogue of one process; threads may share it."""

    def __init__(self, url: str, *, lock: Path) -> None:
        """
        Connect, and create the tables where there are none.

        Args:
            url: SQLAlchemy's URL of the database.
            lock: A file in an existing folder; whoever creates a SQLite catalogue holds it.

        Raises:
            CatalogueUnsupportedError: The URL cannot be used, or the tables are of another format.
            CatalogueUnavailableError: The database does not answer.
            CatalogueDamagedError: The database file is not one.
        """
        self._url = _parse(url)
        self.name = self._url.render_as_string(hide_password=True)
        try:
            self._engine = create_engine(self._url)
        except (foreign.ArgumentError, ImportError) as exc:
            raise CatalogueUnsupportedError(f"The database URL {self.name} cannot be used: {exc}.") from exc
        if self.is_sqlite:
            if self._url.database not in (None, "", ":memory:"):
                Path(str(self._url.database)).parent.mkdir(parents=True, exist_ok=True)
            _set_up_sqlite(self._engine)
        try:
            # SQLite cannot be switched to its write-ahead log by two processes at once.
            with lock.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                self._create()
        except BaseException:
            self.close()
            raise

    @property
    def is_sqlite(self) -> bool:
        """Whether the catalogue is a file here."""
        return self._url.get_backend_name() == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the catalogue throughout."""
        with self._seam(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection that holds the write lock; everything is committed at the end, or nothing at an error."""
        with self._seam(), self._engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _create(self) -> None:
        with self.reading() as connection:
            exists = inspect(connection).has_table(schema.meta.name)
        if not exists:
            with self.writing() as connection:
                if not inspect(connection).has_table(schema.meta.name):
                    schema.metadata.create_all(connection)
                    connection.execute(insert(schema.meta).values(key="format", value=schema.FORMAT))
        with self.reading() as connection:
            found = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "format")).scalar()
        if found != schema.FORMAT:
            raise CatalogueUnsupportedError(
                f"The catalogue {self.name} is of format {found!r}; this lastgood reads {schema.FORMAT!r}. Use the lastgood that wrote it."
            )

    @contextmanager
    def _seam(self) -> Iterator[None]:
        try:
            yield
        except foreign.DBAPIError as exc:
            ours = self._translate(exc.orig)
            if ours is None:
                raise  # a constraint we should not have broken: a bug, with its traceback
            raise ours from exc
        except sqlite3.Error as exc:  # from `connect` below, which SQLAlchemy does not wrap
            raise (self._translate(exc) or exc) from exc

    def _translate(self, cause: BaseException | None) -> LastgoodError | None:
        code = getattr(cause, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _DAMAGED:
            return CatalogueDamagedError(f"The catalogue {self.name} is damaged: {cause}. Restore it from a backup.")
        # Every driver names its errors as the Python Database API does (PEP 249).
        if type(cause).__name__ in {"OperationalError", "InterfaceError"} or isinstance(cause, OSError):
            return CatalogueUnavailableError(
                f"The catalogue {self.name} does not answer: {cause}. Waited up to {BUSY_SECONDS} s; "
                "look for a process that holds it, a full disk, or missing rights."
            )
        return None


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except foreign.ArgumentError as exc:
        raise CatalogueUnsupportedError(
            "The setting `database` is no SQLAlchemy URL; expected sqlite:///PATH or postgresql+DRIVER://USER@HOST/NAME."
        ) from exc


def _set_up_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own: ours say which kind
        try:
            for pragma in (
                f"busy_timeout={BUSY_SECONDS * 1000}",
                "journal_mode=WAL",
                "synchronous=FULL",  # a committed withdrawal survives a power cut
                f"cache_size=-{CACHE_KIB}",
                "foreign_keys=ON",
                "trusted_schema=OFF",
            ):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            connection.close()
            raise

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options: Any = connection.get_execution_options()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITES) else "BEGIN")
