"""Opening the catalogue: what cannot be opened is a sentence. Here of SQLite's file itself; `test_postgresql` has the same of a server."""

import sqlite3
from pathlib import Path

import pytest

from lastgood.registry import schema
from lastgood.registry.database import Database
from lastgood.registry.errors import CatalogueDamagedError, CatalogueUnavailableError, CatalogueUnsupportedError
from lastgood.registry.registry import Registry
from lastgood.settings import Settings
from tests.registry.places import LocalPlaces, Places


@pytest.fixture
def places() -> Places:
    return LocalPlaces()


def connect(settings: Settings) -> sqlite3.Connection:
    return sqlite3.connect(settings.home / "registry" / "catalogue.db")


def test_a_file_that_is_no_database_is_named(settings: Settings) -> None:
    """Somebody's file in the catalogue's place is not written over."""
    path = settings.home / "registry" / "catalogue.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(CatalogueDamagedError, match=str(path)):
        Registry.open(settings, writer="test")
    assert path.read_bytes().startswith(b"not a database")


def test_pages_that_were_overwritten_are_found(registry: Registry, settings: Settings) -> None:
    """A database that is damaged in the middle is an error with a way out, when it is read."""
    registry.close()
    path = settings.home / "registry" / "catalogue.db"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)

    def use() -> None:
        with Registry.open(settings, writer="test") as opened:
            opened.verify()

    with pytest.raises(CatalogueDamagedError, match="backup"):
        use()


def test_a_newer_format_is_refused(registry: Registry, settings: Settings) -> None:
    """An older lastgood does not write into what it does not understand."""
    connection = connect(settings)
    newer = str(int(schema.FORMAT) + 1)
    connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", (newer,))
    connection.commit()
    connection.close()
    with pytest.raises(CatalogueUnsupportedError, match=f"'{newer}'"):
        Registry.open(settings, writer="test")


@pytest.mark.parametrize("url", ["nonsense", "mysql://user:secret@host/name?password=secret", "postgresql+nosuch://user:secret@host/name"])
def test_a_url_that_cannot_be_used_is_refused_without_its_password(settings: Settings, url: str) -> None:
    """The message says what is expected and keeps a secret."""
    with pytest.raises(CatalogueUnsupportedError) as raised:
        Registry.open(settings.model_copy(update={"database": url}), writer="test")
    assert "secret" not in str(raised.value)


def test_a_database_that_is_locked_for_too_long_is_unavailable(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting ends with a sentence, and the error is one that trying later may cure."""
    monkeypatch.setattr("lastgood.registry.engines.BUSY_SECONDS", 0)
    with Registry.open(settings, writer="test") as registry:
        holder = connect(settings)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogueUnavailableError, match="locked") as raised, registry.transaction():
            pass
        holder.close()
        assert raised.value.transient
        with registry.transaction() as transaction:
            transaction.append("noted", model=None, digest=None, actor="ada", payload={})


def test_readers_do_not_wait_for_a_writer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a transaction is open, others read the state before it."""
    monkeypatch.setattr("lastgood.registry.engines.BUSY_SECONDS", 0)
    with Registry.open(settings, writer="test") as registry, registry.transaction() as transaction:
        transaction.append("noted", model=None, digest=None, actor="ada", payload={})
        with Registry.open(settings, writer="other") as other:
            assert [] == other.events()


def test_a_database_with_tables_of_somebody_else_is_left_alone(settings: Settings) -> None:
    """One of them has the name of one of ours."""
    path = settings.home / "registry" / "catalogue.db"
    path.parent.mkdir(parents=True)
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE events (what TEXT)")
    theirs.close()
    with pytest.raises(CatalogueUnsupportedError, match="table 'events' that is not lastgood's"):
        Registry.open(settings, writer="test")
    assert [("events",)] == connect(settings).execute("SELECT name FROM sqlite_master").fetchall()


def test_a_relative_sqlite_url_gets_its_folder(tmp_path: Path) -> None:
    """A catalogue elsewhere is made there, folder and all."""
    path = tmp_path / "else" / "where.db"
    Database(f"sqlite:///{path}", lock=tmp_path / "lock").close()
    assert path.is_file()
