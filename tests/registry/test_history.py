"""Who was live when, against a history kept by hand."""

import hashlib
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.errors import InvalidEventError, ModelNotFoundError
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Held
from tests.registry.places import Places

START = datetime(2026, 3, 1, 14, 3, tzinfo=UTC)
# Seconds since the move before (a clock may stand still, or be set back), the alias, the version moved to.
MOVES = st.lists(st.tuples(st.integers(-3, 5), st.sampled_from(["live", "stable"]), st.none() | st.integers(1, 3)), max_size=12)


class Clock:
    """A clock that shows what it was set to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def add_versions(registry: Registry, folder: Path, count: int) -> list[str]:
    digests = []
    for number in range(1, count + 1):
        path = folder / "model.onnx"
        path.write_bytes(bytes([number]))
        content = Content((FileEntry("model.onnx", 1, hashlib.sha256(bytes([number])).hexdigest()),), (), (), None)
        digests.append(registry.register("digits", content, {"model.onnx": path}, Record("ada", "try"), actor="ada").digest)
    return digests


def seen(held: Held | None) -> tuple[int, datetime] | None:
    return None if held is None else (held.version.number, held.since)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])  # each example has a registry of its own
@given(MOVES)
def test_at_gives_what_a_list_of_moves_gives(places: Places, moves: list[tuple[int, str, int | None]]) -> None:
    """At every second, the last move until then says who held an alias; times never run backwards."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Registry.open(places.new(folder), writer="test", clock=clock) as registry:
            digests = add_versions(registry, folder, 3)
            done: list[tuple[datetime, str, int | None]] = []
            held: dict[str, int | None] = {"live": None, "stable": None}
            latest = START
            for seconds, alias, number in moves:
                clock.now += timedelta(seconds=seconds)
                with registry.transaction() as transaction:
                    transaction.move_alias("digits", alias, None if number is None else digests[number - 1], actor="ada", why="test")
                if held[alias] != number:
                    latest = max(latest, clock.now)
                    done.append((latest, alias, number))
                    held[alias] = number
            for second in range(-1, int((latest - START).total_seconds()) + 2):
                when = START + timedelta(seconds=second)
                expected: dict[str, tuple[int, datetime] | None] = {"live": None, "stable": None}
                for time, alias, number in done:
                    if time <= when:
                        expected[alias] = None if number is None else (number, time)
                moment = registry.at("digits", when)
                assert expected == {"live": seen(moment.live), "stable": seen(moment.stable)}
            assert {name: number for name, number in held.items() if number} == {
                a.name: a.number for a in registry.aliases("digits").values()
            }
            assert registry.verify().ok


def test_at_says_what_put_it_there_and_what_took_it_out(places: Places, tmp_path: Path) -> None:
    """The answer carries the event that moved the alias, and a tombstone that came later."""
    clock = Clock()
    with Registry.open(places.new(tmp_path), writer="test", clock=clock) as registry:
        good, bad = add_versions(registry, tmp_path, 2)
        for digest in (good, bad):
            clock.now += timedelta(minutes=1)
            with registry.transaction() as transaction:
                transaction.move_alias("digits", "live", digest, actor="gateway", why="soaked")
        clock.now += timedelta(minutes=1)
        with registry.transaction() as transaction:
            taken = transaction.tombstone(bad, model="digits", cause="judge", actor="gateway", why="failed", payload={})
            transaction.move_alias("digits", "live", good, actor="gateway", why="fallback")
        moment = registry.at("digits", START + timedelta(minutes=2))
        assert moment.live is not None
        assert (bad, "soaked", taken) == (moment.live.version.digest, moment.live.event.payload["why"], moment.live.tombstoned)
        later = registry.at("digits", clock.now)
        assert later.live is not None
        assert (good, None) == (later.live.version.digest, later.live.tombstoned)


def test_at_needs_a_model_and_a_zone(places: Places, tmp_path: Path) -> None:
    """An unknown model and a time without a zone are refused."""
    with Registry.open(places.new(tmp_path), writer="test") as registry:
        with pytest.raises(ModelNotFoundError, match="digits"):
            registry.at("digits", START)
        with pytest.raises(InvalidEventError, match="zone"):
            registry.at("digits", START.replace(tzinfo=None))
