"""The gateway's journal: what was decided survives whatever dies next."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastgood.errors import IntegrityError
from lastgood.serving.gateway.rollouts.journal import Entry, Journal


def entry(identity: str) -> Entry:
    return Entry(identity, "2026-05-01T00:00:00+00:00", "m", 2, "sha256:" + "2" * 64, "judge", True, "judge", "dead", {"receipt": {"x": 1}})


def test_an_open_entry_is_there_after_opening_again_and_a_closed_one_is_not(tmp_path: Path) -> None:
    """Recorded entries are dropped, the others wait."""
    journal = Journal(tmp_path / "journal")
    journal.append(entry("a"))
    journal.append(entry("b"))
    journal.close_entry("a")
    journal.close()
    again = Journal(tmp_path / "journal")
    assert (entry("b"),) == again.open_entries
    again.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(cut=st.integers(0, 2000))
def test_a_line_cut_off_anywhere_costs_only_itself(tmp_path: Path, cut: int) -> None:
    """A crash in the middle of the last line leaves every earlier line, and the journal opens."""
    path = tmp_path / "journal"
    path.unlink(missing_ok=True)
    journal = Journal(path)
    journal.append(entry("a"))
    whole = path.stat().st_size
    journal.append(entry("b"))
    journal.close()
    size = whole + cut % (path.stat().st_size - whole)
    os.truncate(path, size)
    again = Journal(path)
    assert [entry("a")] == list(again.open_entries)
    again.append(entry("c"))
    assert [entry("a"), entry("c")] == list(again.open_entries)
    again.close()


def test_a_line_that_somebody_changed_is_named(tmp_path: Path) -> None:
    """Not torn, but wrong: the gateway does not guess what it had promised."""
    path = tmp_path / "journal"
    path.write_text('{"withdraw": {"id": "a"}}\n', "utf-8")
    with pytest.raises(IntegrityError, match="Line 1"):
        Journal(path)
