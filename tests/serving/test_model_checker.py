"""
Every order of intents, alerts, decisions, crashes and records, as far as a small world has them: the pure functions explored exhaustively.

The world is `benchmarks/world`; `benchmarks/schedules.py` walks through larger ones at random.
"""

import importlib.util
import sys
from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lastgood.serving.gateway.rollouts.alerts import Alert, rule
from lastgood.serving.gateway.rollouts.state import ModelState

if TYPE_CHECKING:
    from benchmarks import world as worlds
else:
    folder = Path(__file__).parents[2] / "benchmarks" / "world"
    spec = importlib.util.spec_from_file_location(
        "lastgood_benchmarks_world", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    worlds = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = worlds  # its modules find each other through it
    spec.loader.exec_module(worlds)

NOW = worlds.EPOCH + timedelta(days=1)
Seen = dict[object, tuple["worlds.World", object | None, str]]
STARTS = {
    "from nothing, with an alert": worlds.begin_world(stable=False, releases=2, incidents=1),
    "a release beside a stable version": worlds.begin_world(stable=True, releases=1),
    "two alerts on a stable version": worlds.begin_world(stable=True, incidents=2),
    "two gateways, one of them cut off, in a release": worlds.begin_world(stable=True, gateways=2, releases=1, cuts=1),
    "two gateways, one of them cut off, and an alert": worlds.begin_world(stable=True, gateways=2, incidents=1, cuts=1),
}


def check_alerts(state: ModelState) -> None:
    """Alerts of every version, firing or resolved, begun before its episode or in it: only those about what serves now count."""
    serving = [pin for pin in (state.split.main, state.split.candidate) if pin is not None]
    for pin in worlds.PINS:
        for began in (worlds.EPOCH - timedelta(hours=1), NOW):
            for firing in (True, False):
                ruling = rule(Alert("A", firing, "m", pin.number, "rollback", began, "", ""), {"m": state})
                counts = firing and began == NOW and pin in serving
                assert ("rollback" if counts else "ignored", pin if counts else None) == (ruling.result, ruling.pin)


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_no_order_of_events_serves_a_tombstone_withdraws_twice_or_gets_stuck(start: "worlds.World") -> None:
    """Breadth first through every reachable world; from each there is a way to one where nothing is under way."""
    seen: Seen = {start.key(): (start, None, "start")}
    before: dict[object, set[object]] = {}
    told: set[object] = set()
    queue = deque([(start.key(), start)])
    while queue:
        own, world = queue.popleft()
        shape = repr(world.gateways[0].memory.split)
        if shape not in told:
            told.add(shape)
            check_alerts(world.gateways[0].memory)
        for name, after in worlds.moves(world):
            key = after.key()
            if "crash" not in name:
                before.setdefault(key, set()).add(own)
            if key not in seen:
                seen[key] = (after, own, name)
                problem = worlds.find_problem(after)
                assert problem is None, f"{problem}: {explain(seen, key)}"
                queue.append((key, after))
    assert len(seen) > 1000
    rest = deque(key for key, (world, _, _) in seen.items() if worlds.is_settled(world))
    reached = set(rest)
    while rest:
        for key in before.get(rest.popleft(), ()):
            if key not in reached:
                reached.add(key)
                rest.append(key)
    stuck = [key for key in seen if key not in reached]
    assert [] == [explain(seen, key) for key in stuck[:3]]


def explain(seen: Seen, key: object) -> str:
    """Give how a world came about."""
    names: list[str] = []
    while key is not None:
        _, before, name = seen[key]
        names.append(name)
        key = before
    return " → ".join(reversed(names))
