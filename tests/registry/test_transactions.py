"""The two kinds of transaction, on both databases: what one sees, what it waits for, and what becomes of it when the connection is lost."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import func, select

from lastgood.registry.database import Database
from lastgood.registry.errors import CatalogueUnavailableError, CatalogueUnsupportedError, InvalidEventError
from lastgood.registry.events import check_text
from lastgood.registry.registry import Registry
from lastgood.registry.schema import events
from lastgood.settings import Settings
from tests.registry.places import REMOTE
from tests.registry.servers import PostgreSQL

only_remote = pytest.mark.parametrize("places", [pytest.param(REMOTE, marks=pytest.mark.system)], indirect=True)


def note(registry: Registry, **payload: Any) -> int:
    with registry.transaction() as transaction:
        return transaction.append("noted", model=None, digest=None, actor="ada", payload=payload).position


@pytest.fixture
def other(registry: Registry, settings: Settings) -> Iterator[Registry]:
    """The same registry, opened once more."""
    with Registry.open(settings, writer="other") as opened:
        yield opened


@pytest.fixture
def admin(settings: Settings) -> Iterator[Callable[[str], list[Any]]]:
    """Ask the server about this database."""
    assert settings.database is not None
    with psycopg.connect(settings.database, autocommit=True) as connection:
        yield lambda question: connection.execute(question.encode()).fetchall()


def end_all(admin: Callable[[str], list[Any]]) -> None:
    """As a server does that is shut down."""
    assert admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")


def test_a_reader_sees_one_state_throughout(registry: Registry, other: Registry) -> None:
    """Whatever is committed between two of its questions."""
    note(registry)
    with registry._database.reading() as connection:
        count = select(func.count()).select_from(events)
        assert connection.scalar(count) == 1
        note(other)
        assert connection.scalar(count) == 1
    with registry._database.reading() as connection:
        assert connection.scalar(count) == 2


def test_a_writer_sees_all_that_was_committed_while_it_waited(registry: Registry, other: Registry) -> None:
    """A state from before the wait would give two events one position."""
    begun = threading.Event()

    def write() -> int:
        begun.set()
        return note(other)

    with ThreadPoolExecutor(1) as pool:
        with registry.transaction() as transaction:
            waiting = pool.submit(write)
            assert begun.wait(10)
            first = transaction.append("noted", model=None, digest=None, actor="ada", payload={}).position
        assert (1, 2) == (first, waiting.result(30))
    assert registry.verify().ok


@only_remote
def test_a_writer_that_waits_for_the_lock_has_seen_nothing_yet(
    registry: Registry, other: Registry, admin: Callable[[str], list[Any]]
) -> None:
    """The same where the server itself says that the other one is waiting."""
    waits = "SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database WHERE datname = current_database() AND NOT granted"
    with ThreadPoolExecutor(1) as pool:
        with registry.transaction() as transaction:
            waiting = pool.submit(note, other)
            while not admin(waits):
                assert not waiting.done()
            for _ in range(3):
                transaction.append("noted", model=None, digest=None, actor="ada", payload={})
        assert waiting.result(30) == 4
    assert registry.verify().ok


@only_remote
def test_a_reader_cannot_write(registry: Registry) -> None:
    """PostgreSQL itself refuses it."""
    with pytest.raises(CatalogueUnavailableError, match="read-only transaction"), registry._database.reading() as connection:
        connection.execute(events.delete())


@only_remote
def test_a_writer_that_waits_too_long_is_unavailable(registry: Registry, other: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with SQLite: a sentence, and trying later may cure it."""
    monkeypatch.setattr("lastgood.registry.engines.BUSY_SECONDS", 1)
    with registry.transaction():
        with pytest.raises(CatalogueUnavailableError, match="lock timeout") as raised, other.transaction():
            pass
        assert raised.value.transient
    assert note(other) == 1


@only_remote
def test_connections_that_the_server_ended_are_no_error_for_who_asks_next(registry: Registry, admin: Callable[[str], list[Any]]) -> None:
    """A server that was restarted between two calls."""
    note(registry)
    end_all(admin)
    assert len(registry.events()) == 1
    end_all(admin)
    assert note(registry) == 2


@only_remote
def test_a_connection_lost_in_a_transaction_is_unavailable_and_leaves_nothing(
    registry: Registry, admin: Callable[[str], list[Any]]
) -> None:
    """The lock goes with it, and the next call works."""

    def fail() -> None:
        with registry.transaction() as transaction:
            transaction.append("noted", model=None, digest=None, actor="ada", payload={})
            end_all(admin)
            transaction.append("noted", model=None, digest=None, actor="ada", payload={})

    with pytest.raises(CatalogueUnavailableError, match="does not answer") as raised:
        fail()
    assert (7, True) == (raised.value.exit_code, raised.value.transient)
    assert note(registry) == 1
    assert registry.verify().ok


@only_remote
@pytest.mark.parametrize(
    ("database", "sentence"),
    [
        ("postgresql://ada:swordfish@localhost:1/x?password=swordfish", r"\*\*\*@localhost:1/x does not answer: connection failed"),
        ("postgresql://lastgood@/nosuch?host={folder}", "lastgood@/nosuch does not answer: .*does not exist"),
        ("postgresql://ada@/postgres?host={folder}", 'role "ada" does not exist'),
    ],
)
def test_a_server_that_does_not_let_us_in_is_unavailable(settings: Settings, postgresql: PostgreSQL, database: str, sentence: str) -> None:
    """In a sentence that tells no password."""
    there = settings.model_copy(update={"database": database.format(folder=postgresql.folder)})
    with pytest.raises(CatalogueUnavailableError, match=sentence) as raised:
        Registry.open(there, writer="test")
    assert "swordfish" not in str(raised.value)


def test_a_missing_driver_names_the_extra(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As somebody has it who did not ask for PostgreSQL."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(CatalogueUnsupportedError, match=r"pip install 'lastgood\[postgresql\]'"):
        Database("postgresql://ada:swordfish@host/x", lock=settings.home)


def test_texts_are_ordered_by_their_bytes(registry: Registry, add: Callable[..., Any]) -> None:
    """Whatever the order is that the database was made with."""
    for model in ("b", "a_b", "ab", "a-c", "aa", "a1"):
        add("one", model=model)
    assert sorted(registry.models()) == registry.models()


def test_numbers_that_nothing_has_are_not_found(registry: Registry, add: Callable[..., Any]) -> None:
    """Also those that 32 bits do not hold."""
    add("one")
    for name in ("2147483648", "999999999999999"):
        with pytest.raises(Exception, match="No event"):
            registry.event(name)
    with pytest.raises(Exception, match="newest is digits@1"):
        registry.resolve("digits@999999999")


def test_a_text_that_not_every_database_can_hold_is_refused(registry: Registry, add: Callable[..., Any]) -> None:
    """PostgreSQL holds no NUL; in a payload it is written as JSON writes it."""
    assert note(registry, text="a\0b") == 1
    assert {"text": "a\0b"} == registry.event("1").payload
    with pytest.raises(InvalidEventError, match="actor"):
        check_text("a\0b", "actor")
    version = add("one")
    with pytest.raises(InvalidEventError, match="reason"), registry.transaction() as transaction:
        transaction.tombstone(version.digest, model="digits", cause="person", actor="ada", why="a\0b", payload={})
    assert registry.verify().ok
