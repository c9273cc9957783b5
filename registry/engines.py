"""
What differs between the databases: how each is connected to, how a transaction begins, and what its errors mean.

SQLite's writers take the file's write lock when they begin (``BEGIN IMMEDIATE``). PostgreSQL's take an advisory lock first thing, at READ
COMMITTED: each later statement sees what was committed before it, also what the holder of the lock before wrote, which a snapshot from the
time of waiting would not show. Its readers are at REPEATABLE READ: one snapshot from the first statement on. SQLite's see one in any case.
"""

import re
import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy import exc as foreign
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import ConnectionPoolEntry

from lastgood.errors import LastgoodError
from lastgood.registry.errors import CatalogueDamagedError, CatalogueUnavailableError, CatalogueUnsupportedError

BUSY_SECONDS: Final = 30  # how long a writer waits for the ones before it
CACHE_KIB: Final = 256  # pages that each connection keeps; what is not among them lies in the system's own cache
LOCK_KEY: Final = 0x6C617374  # "last", PostgreSQL's advisory lock of the writers
_CONNECT_SECONDS: Final = 10
_STALLED_SECONDS: Final = 300  # a writer that asks nothing for so long is let go by the server, and its lock with it
_WRITES: Final = "lastgood_writes"
_POSTGRESQL: Final = "postgresql+psycopg"
# SQLite's result codes that mean the file itself is bad: https://www.sqlite.org/rescode.html
_SQLITE_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# PostgreSQL's states, https://www.postgresql.org/docs/current/errcodes-appendix.html: data or index corrupted; no connection, no
# resources, ended by somebody, trouble of the system, a server that only reads, rights that are missing.
_DAMAGED: Final = re.compile("XX00[12]")
_UNAVAILABLE: Final = re.compile("08|53|57|58|25006|42501")


def parse_url(given: str) -> URL:
    """
    Read the setting `database`; ``postgresql://`` means psycopg.

    Raises:
        CatalogueUnsupportedError: It is no URL, or of another database.
    """
    try:
        url = make_url(given)
    except foreign.ArgumentError as exc:
        raise CatalogueUnsupportedError(
            "The setting `database` is no SQLAlchemy URL; expected sqlite:///PATH or postgresql://USER@HOST/NAME."
        ) from exc
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername=_POSTGRESQL)
    if url.drivername == _POSTGRESQL:
        return url.set(query={"connect_timeout": str(_CONNECT_SECONDS), "application_name": "lastgood", **url.query})
    if url.get_backend_name() != "sqlite":
        raise CatalogueUnsupportedError(
            f"The database URL {show_url(url)} is not one of SQLite or PostgreSQL (with psycopg); "
            "expected sqlite:///PATH or postgresql://USER@HOST/NAME."
        )
    return url


def show_url(url: URL) -> str:
    """Give a URL for people: without its password, and without its query, which may hold one too."""
    return url.set(query={}).render_as_string(hide_password=True)


def connect(url: URL) -> Engine:
    """
    Make the engine of a URL; it connects when it is first used.

    Raises:
        CatalogueUnsupportedError: The driver is not installed, or the URL lacks what it needs.
    """
    try:
        if url.get_backend_name() != "sqlite":
            return create_engine(url, pool_pre_ping=True)  # a server that was restarted is no error for who asks next
        engine = create_engine(url)
    except ImportError as exc:
        raise CatalogueUnsupportedError(
            f"The driver for {show_url(url)} is not installed ({exc}). Install it: pip install 'lastgood[postgresql]'"
        ) from exc
    except foreign.ArgumentError as exc:
        raise CatalogueUnsupportedError(f"The database URL {show_url(url)} cannot be used: {exc}.") from exc
    if url.database not in {None, "", ":memory:"}:
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    _set_up_sqlite(engine)
    return engine


def open_reading(engine: Engine) -> Connection:
    """Give a connection whose transactions see one state, and cannot change it on PostgreSQL."""
    if engine.dialect.name == "sqlite":
        return engine.connect()
    return engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def open_writing(engine: Engine) -> Connection:
    """Give a connection whose transactions are to begin with `lock`."""
    if engine.dialect.name == "sqlite":
        return engine.connect().execution_options(**{_WRITES: True})
    return engine.connect().execution_options(isolation_level="READ COMMITTED", postgresql_readonly=False)


def lock(connection: Connection) -> None:
    """Wait for the writers before this one; what `open_writing` gave holds the lock until its transaction ends."""
    if connection.dialect.name == "sqlite":
        return  # it began with it
    limits = {"waits": f"{BUSY_SECONDS}s", "stalls": f"{_STALLED_SECONDS}s"}
    setting = "SELECT set_config('lock_timeout', :waits, true), set_config('idle_in_transaction_session_timeout', :stalls, true)"
    connection.execute(text(setting), limits)
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})


def translate(cause: BaseException | None, name: str) -> LastgoodError | None:
    """Give our error for a driver's, None where it can only be a bug; ``name`` is the catalogue's for people."""
    state = str(getattr(cause, "sqlstate", None) or "")
    code = getattr(cause, "sqlite_errorcode", None)
    if _DAMAGED.match(state) or (code is not None and code & 0xFF in _SQLITE_DAMAGED):
        return CatalogueDamagedError(f"The catalogue {name} is damaged: {cause}. Restore it from a backup.")
    # Every driver names its errors as the Python Database API does (PEP 249); psycopg's are subclasses, one for each state.
    kinds = {kind.__name__ for kind in type(cause).__mro__}
    if _UNAVAILABLE.match(state) or kinds & {"OperationalError", "InterfaceError", "OSError", "TimeoutError"}:
        return CatalogueUnavailableError(
            f"The catalogue {name} does not answer: {cause}. Waited up to {BUSY_SECONDS} s; "
            "look for a server that is down, a process that holds it, a full disk, or missing rights."
        )
    return None


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
