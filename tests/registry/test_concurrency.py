"""Several processes at once: nothing is lost, nothing is doubled."""

from collections import Counter
from pathlib import Path

import pytest

from lastgood.registry.registry import Registry
from lastgood.settings import Settings
from tests.registry.racing import run_at_once

pytestmark = pytest.mark.slow
WRITERS, ROUNDS = 8, 4
PROGRAM = Path(__file__).with_name("writer_program.py")


def test_eight_writers_lose_nothing(settings: Settings) -> None:
    """
    Eight processes open a registry that does not exist yet and write into it at once.

    Numbers are given once each, the version that all register exists once, every compare-and-swap counts, no alias is moved from where it
    did not point, and the chain of each writer holds.
    """
    names = [f"writer-{number}" for number in range(WRITERS)]
    run_at_once(PROGRAM, [(settings.model_dump_json(), name, str(ROUNDS)) for name in names], seconds=60)
    with Registry.open(settings, writer="test") as registry:
        versions = registry.versions("digits")
        assert list(range(1, WRITERS * ROUNDS + 2)) == [version.number for version in versions]
        by = Counter(event.writer for event in registry.events() if event.kind == "route")
        assert dict.fromkeys(names, ROUNDS) == by
        route = registry.route("digits")
        assert route is not None
        assert (WRITERS * ROUNDS, {"count": WRITERS * ROUNDS}) == (route.generation, route.body)
        moves = [event for event in registry.events() if event.kind == "alias-moved"]
        assert dict.fromkeys(names, ROUNDS) == Counter(event.writer for event in moves)
        assert [None, *(event.digest for event in moves[:-1])] == [event.payload["from"] for event in moves]
        assert [str(event.payload["from"]) for event in moves] == [event.payload["why"] for event in moves]
        report = registry.verify()
        assert () == report.problems
        assert report.unreferenced_files == 0
        assert len(versions) + 2 * WRITERS * ROUNDS == report.events
