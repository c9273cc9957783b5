"""Verify finds every byte, event and row that is not as it was recorded."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from lastgood.registry.engines import parse_url
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.settings import Settings
from tests.registry.places import change, flip, name_of

Add = Callable[..., Version]


@pytest.fixture
def full(registry: Registry, add: Add) -> Registry:
    """Two versions, an alias, a route, a tombstone, a lift, a note."""
    first, second = add("a"), add("b")
    with registry.transaction() as transaction:
        transaction.move_alias("digits", "live", first.digest, actor="gateway", why="soaked")
        transaction.write_route("digits", {"share": 0.5}, expected=0)
        transaction.tombstone(second.digest, model="digits", cause="judge", actor="gateway", why="failed", payload={"e": 21.0})
    registry.lift(second.digest, actor="ada", why="looked")
    with registry.transaction() as transaction:
        transaction.tombstone(second.digest, model="digits", cause="person", actor="ada", why="bad after all", payload={})
    registry.describe(first, "the first one", actor="ada")
    return registry


def test_what_was_recorded_is_sound(full: Registry) -> None:
    """Nothing is found where nothing was changed, and the counts are what is there."""
    report = full.verify()
    assert () == report.problems
    assert (2, 3, 8) == (report.versions, report.files, report.events)
    assert (report.ok, report.unreferenced_files) == (True, 0)
    assert full.verify("digits@1").files == 2


def test_a_flipped_bit_in_any_stored_file_is_found(full: Registry) -> None:
    """Each stored file in turn: the problem names the file as the version calls it and as it is stored."""
    names = {entry.sha256: entry.path for version in full.versions("digits") for entry in full.content(version.digest).files}
    stored = list(full._files.store.iterate())
    assert sorted(names) == stored
    for sha256 in stored:
        flip(full, sha256)
        problems = full.verify().problems
        assert problems
        assert all(names[sha256] in problem.name and full._files.store.locate(sha256) in problem.text for problem in problems)
        flip(full, sha256)
    assert full.verify().ok


def test_a_file_of_no_version_is_counted_and_checked(full: Registry, tmp_path: Path) -> None:
    """What a crash left is no problem; a damaged one is."""
    (tmp_path / "left").write_bytes(b"left")
    sha256 = full._files.store.put(tmp_path / "left")
    assert (full.verify().ok, full.verify().unreferenced_files) == (True, 1)
    full._files.store._objects.write(name_of(sha256), b"LEFT")
    assert [full._files.store.locate(sha256)] == [problem.name for problem in full.verify().problems]


def test_a_missing_file_is_found(full: Registry) -> None:
    """Only the version that needs it has the problem."""
    entry = next(entry for entry in full.content(full.resolve("digits@1").digest).files if entry.path == "model.onnx")
    full._files.store._objects.remove([name_of(entry.sha256)])
    assert ["model.onnx"] == [problem.name.split()[0] for problem in full.verify("digits@1").problems]
    assert full.verify("digits@2").ok


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("UPDATE events SET actor = 'mallory' WHERE position = 3", "event 3"),
        ("UPDATE events SET payload = replace(payload, 'failed', 'sailed') WHERE position = 5", "event 5"),
        ("UPDATE events SET payload = '[' WHERE position = 5", "event 5"),
        ("UPDATE events SET time = 'yesterday' WHERE position = 1", "event 1"),
        ("UPDATE events SET time = time || ' ' WHERE position = 4", "event 4"),
        ("DELETE FROM events WHERE position = 3", "event 4"),
        ("DELETE FROM events WHERE position = 8", "writer test"),
        ("UPDATE writers SET sequence = 9", "writer test"),
        ("UPDATE versions SET number = 9 WHERE number = 2", "versions digits 9"),
        ("UPDATE versions SET created_by = 'mallory' WHERE number = 1", "versions digits 1"),
        ("UPDATE aliases SET number = 2", "aliases digits live"),
        ("DELETE FROM aliases", "aliases digits live"),
        ("INSERT INTO aliases SELECT model, 'stable', digest, number, since, position FROM aliases", "aliases digits stable"),
        ("DELETE FROM tombstones", "tombstones"),
        ("UPDATE tombstones SET why = ''", "tombstones"),
        ("UPDATE routes SET body = '{\"share\":1}'", "routes digits"),
        ("UPDATE routes SET generation = 7", "routes digits"),
        ("UPDATE contents SET content = replace(content, 'FP32', 'FP64')", "content sha256:"),
        ("DELETE FROM contents", "content sha256:"),
    ],
)
def test_any_tampered_row_is_found(full: Registry, settings: Settings, statement: str, name: str) -> None:
    """Around the triggers, any table: the problem names the row."""
    assert change(settings, statement)
    problems = full.verify().problems
    assert any(problem.name.startswith(name) for problem in problems), problems


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET actor = 'mallory'",
        "DELETE FROM events",
        "UPDATE versions SET number = 9",
        "DELETE FROM versions",
        "UPDATE contents SET content = ''",
    ],
)
def test_the_database_itself_refuses_to_rewrite_history(full: Registry, settings: Settings, statement: str) -> None:
    """Also for somebody who opens the file with another program."""
    engine = create_engine(parse_url(settings.database_url), poolclass=NullPool)
    with engine.connect() as connection, pytest.raises(DBAPIError, match=r"only grows|never"):
        connection.execute(text(statement))
    assert full.verify().ok
