"""Checking the log piece by piece finds what checking all of it finds."""

from collections.abc import Callable
from typing import Any

import pytest

from lastgood.errors import IntegrityError
from lastgood.registry.audit import read_checked, write_checked
from lastgood.registry.chain import Checked
from lastgood.registry.registry import Registry
from lastgood.settings import Settings
from tests.registry.places import change


def walk(registry: Registry, checked: Checked, limit: int) -> tuple[Checked, list[str]]:
    """Check to the end; give how far it is known and the names of what is wrong."""
    names: list[str] = []
    while True:
        piece = registry.check_log(checked, limit)
        checked = piece.checked
        names += [name for name, _ in piece.problems]
        if piece.ended:
            return checked, names


@pytest.fixture
def written(registry: Registry, add: Callable[..., Any]) -> Registry:
    """A log of some events by two writers."""
    version = add("one")
    for number in range(5):
        registry.describe(version, f"text {number}", actor="ada")
    with registry.transaction() as transaction:
        transaction.append("noted", model="digits", digest=None, actor="bob", payload={"n": 1})
    return registry


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pieces_of_any_size_find_a_whole_log_whole(written: Registry, limit: int) -> None:
    """And what is appended later is checked from there on."""
    checked, problems = walk(written, Checked(), limit)
    assert [] == problems
    assert len(written.events()) == checked.position
    written.describe(written.resolve("digits@1"), "later", actor="ada")
    later, problems = walk(written, read_checked(write_checked(checked)), limit)
    assert ([], checked.position + 1) == (problems, later.position)


@pytest.mark.parametrize("limit", [1, 3, 100])
@pytest.mark.parametrize("position", [1, 4, 7])
def test_a_changed_event_is_named_from_the_beginning_on(written: Registry, settings: Settings, limit: int, position: int) -> None:
    """Whichever piece it falls into."""
    assert change(settings, "UPDATE events SET actor = 'eve' WHERE position = ?", position)
    assert [f"event {position}"] == walk(written, Checked(), limit)[1]


def test_what_was_checked_is_held_by_its_last_hash(written: Registry, settings: Settings) -> None:
    """A log that was written anew, or cut off, does not end in the event that was checked."""
    checked, _ = walk(written, Checked(), 100)
    other = "UPDATE events SET hash = CASE substr(hash, 1, 1) WHEN 'f' THEN 'e' ELSE 'f' END || substr(hash, 2) WHERE position = ?"
    assert change(settings, other, checked.position)
    assert f"event {checked.position}" in walk(written, checked, 100)[1]
    assert change(settings, "DELETE FROM events WHERE position = ?", checked.position)
    assert f"event {checked.position}" in walk(written, checked, 100)[1]
    assert walk(written, Checked(), 100)[1]


@pytest.mark.parametrize("value", [{}, {"position": 1, "anchor": None, "time": "", "heads": {"a": 1}}, {"position": "x"}])
def test_what_is_no_record_of_a_check_is_said(value: dict[str, Any]) -> None:
    """Whoever reads it begins at the beginning."""
    with pytest.raises(IntegrityError, match="position, anchor"):
        read_checked(value)
