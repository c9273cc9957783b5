"""Catalogues of older formats become ones of this format: the same tables, everything in them kept, once, or not at all."""

import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.engine import make_url

from lastgood.registry import engines, migrations, schema
from lastgood.registry.errors import CatalogueUnsupportedError
from lastgood.registry.registry import Registry
from lastgood.settings import Settings
from tests.registry.places import Places, only_local
from tests.registry.servers import find_programs

NEXT = """
    from alembic import op
    from sqlalchemy import Column, Text

    def upgrade() -> None:
        op.create_table("next", Column("name", Text, primary_key=True))
        op.execute("INSERT INTO next SELECT model FROM versions")
        {more}
"""


def make_engine(settings: Settings) -> Engine:
    (settings.home / "registry").mkdir(parents=True, exist_ok=True)
    return create_engine(engines.parse_url(settings.database_url), poolclass=NullPool)


def build(settings: Settings, how: Callable[[Any], None]) -> None:
    """Fill an empty database."""
    with make_engine(settings).begin() as connection:
        how(connection)


def dump(settings: Settings) -> list[str]:
    """Give what the database itself says of its tables, rules and functions, in an order that does not tell who made them."""
    if settings.database is None:
        with closing(sqlite3.connect(settings.home / "registry" / "catalogue.db")) as connection:
            return sorted(" ".join(row[0].split()) for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL"))
    url = make_url(settings.database)
    command = [
        str(find_programs() / "pg_dump"),
        "--schema-only",
        f"--host={url.query['host']}",
        f"--username={url.username}",
        str(url.database),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return sorted(line for line in done.stdout.splitlines() if line and not line.startswith(("--", "\\")))


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Make this lastgood one that has another migration, with some more to do in it."""
    folder = tmp_path / "migrations"
    folder.mkdir()

    def add(more: str = "") -> None:
        (folder / "format_next.py").write_text(textwrap.dedent(NEXT).format(more=more), "utf-8")
        monkeypatch.setattr(migrations, "__path__", [*migrations.__path__, str(folder)])
        monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, "format_next"))
        monkeypatch.setattr(schema, "FORMAT", str(len(migrations.MIGRATIONS)))

    yield add
    sys.modules.pop(f"{migrations.__name__}.format_next", None)


def test_there_are_as_many_migrations_as_the_format_says() -> None:
    """And each is a module beside the list."""
    assert str(len(migrations.MIGRATIONS)) == schema.FORMAT
    folder = Path(migrations.__file__).parent
    assert {f"{name}.py" for name in migrations.MIGRATIONS} == {path.name for path in folder.glob("*.py")} - {"__init__.py"}


def test_migrations_alone_make_what_a_new_catalogue_is(places: Places, tmp_path: Path) -> None:
    """As alembic compares tables, and as the database itself tells all that it has."""
    migrated, made = places.new(tmp_path / "migrated"), places.new(tmp_path / "made")
    build(migrated, lambda connection: migrations.upgrade(connection, 0))
    Registry.open(made, writer="test").close()
    for settings in (migrated, made):
        with make_engine(settings).connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
            assert [] == compare_metadata(context, schema.metadata)
    assert dump(made) == dump(migrated)
    with Registry.open(migrated, writer="test") as registry:
        assert registry.verify().ok


def test_a_catalogue_made_before_there_were_migrations_goes_on(places: Places, tmp_path: Path, newer: Callable[[], None]) -> None:
    """Its format is the first migration's; nothing else says how far it is, and the next one is all that it gets."""
    settings = places.new(tmp_path)
    build(settings, lambda connection: migrations.upgrade(connection, 0))
    newer()
    Registry.open(settings, writer="test").close()
    with make_engine(settings).connect() as connection:
        assert schema.FORMAT == connection.scalar(text("SELECT value FROM meta WHERE key = 'format'"))
        assert [] == connection.execute(text("SELECT name FROM next")).all()


def test_an_older_catalogue_is_upgraded_with_everything_in_it(
    registry: Registry, add: Callable[..., Any], settings: Settings, newer: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A person is told, and where the file before is kept; who opens it next finds nothing to do."""
    add("one")
    events = registry.events()
    registry.close()
    before = dump(settings)
    newer()
    with Registry.open(settings, writer="test") as opened:
        assert events == opened.events()
        assert opened.verify().ok
    assert before != dump(settings)
    (record,) = caplog.records
    assert f"from format {int(schema.FORMAT) - 1} to {schema.FORMAT}" in record.getMessage()
    if settings.database is None:
        kept = settings.home / "registry" / f"catalogue.db.format-{int(schema.FORMAT) - 1}"
        assert str(kept) in record.getMessage()
        with closing(sqlite3.connect(kept)) as copy:
            assert len(events) == copy.execute("SELECT count(*) FROM events").fetchone()[0]
            assert [("ok",)] == copy.execute("PRAGMA integrity_check").fetchall()
    Registry.open(settings, writer="test").close()
    assert [record] == caplog.records


def test_an_upgrade_that_fails_leaves_the_catalogue_as_it_was(
    registry: Registry, add: Callable[..., Any], settings: Settings, newer: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables that it made, and rows that it wrote, are gone again; the lastgood before goes on with it."""
    add("one")
    registry.close()
    before, events = dump(settings), registry.events()
    newer("raise ValueError('half way')")
    with pytest.raises(ValueError, match="half way"):
        Registry.open(settings, writer="test")
    monkeypatch.undo()
    assert before == dump(settings)
    with Registry.open(settings, writer="test") as opened:
        assert events == opened.events()


def test_many_that_open_an_older_catalogue_at_once_upgrade_it_once(
    registry: Registry,
    add: Callable[..., Any],
    settings: Settings,
    newer: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """Also where they share no file to lock, as on several machines."""
    add("one")
    registry.close()
    newer()

    def open_one(number: int) -> int:
        home = settings.home if settings.database is None else tmp_path / f"home{number}"
        with Registry.open(settings.model_copy(update={"home": home, "database": settings.database_url}), writer="test") as opened:
            return len(opened.events())

    with ThreadPoolExecutor(6) as pool:
        assert [1] * 6 == list(pool.map(open_one, range(6)))
    assert 1 == len(caplog.records)


def test_a_newer_catalogue_is_refused_and_left_alone(registry: Registry, settings: Settings) -> None:
    """An older lastgood does not write into what it does not understand; neither does one that finds no number."""
    registry.close()
    for other in ("99", "x"):
        with make_engine(settings).begin() as connection:
            connection.execute(text("UPDATE meta SET value = :other"), {"other": other})
        before = dump(settings)
        with pytest.raises(CatalogueUnsupportedError, match=f"of format '{other}'.*Use the lastgood that wrote it"):
            Registry.open(settings, writer="test")
        assert before == dump(settings)


@only_local
def test_a_copy_is_whole_before_anything_is_changed(
    registry: Registry, add: Callable[..., Any], settings: Settings, newer: Callable[[], None], tmp_path: Path
) -> None:
    """What lies in the write-ahead log is in it; one that an earlier try left half is written anew."""
    add("one")
    kept = settings.home / "registry" / f"catalogue.db.format-{schema.FORMAT}"
    kept.with_name(f"{kept.name}.partial").write_bytes(b"half")
    newer()
    Registry.open(settings, writer="test").close()  # while the other process's log is not written back yet
    elsewhere = tmp_path / "restored"
    (elsewhere / "registry").mkdir(parents=True)
    shutil.copyfile(kept, elsewhere / "registry" / "catalogue.db")
    with Registry.open(settings.model_copy(update={"home": elsewhere}), writer="test") as restored:
        assert ["digits"] == restored.models()
    assert not kept.with_name(f"{kept.name}.partial").exists()
