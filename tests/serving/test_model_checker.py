"""
Every order of intents, alerts, decisions, crashes and records, as far as a small world has them: the pure functions explored exhaustively.

The world is one model with three versions and one gateway. Memory is what the gateway knows, the record what the registry holds, the
journal what is decided and not recorded yet. An action that writes may be cut off before or after its write; a withdrawal may overtake a
change that is being written. Times are forgotten but for what rules ask of them, so that the world is finite.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from lastgood.errors import LastgoodError
from lastgood.serving.gateway.alerts import Alert, rule
from lastgood.serving.gateway.intents import Intent, check_intent
from lastgood.serving.gateway.state import Change, ModelState, Taking, prove_live, step, submit, withdraw
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import Cause, EventKind, Pin, Rollout, State

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = RolloutPolicy(steps=(0.1,), freeze_after=2, freeze_window_seconds=1e9)
PINS = tuple(Pin(number, f"sha256:{number}") for number in (1, 2, 3))
NUMBER = {pin.digest: pin.number for pin in PINS}


@dataclass(frozen=True)
class World:
    """What is known where; ``writing`` is a change on its way to the record, with the state it was computed from."""

    memory: ModelState
    record: ModelState
    vetoed: frozenset[str] = frozenset()
    lifted_or_dead: frozenset[str] = frozenset()  # tombstones in the record
    journal: tuple[tuple[str, Cause, bool], ...] = ()  # digest, cause, tombstone
    writing: tuple[ModelState, Change] | None = None
    left: int = 0  # releases that may still be begun

    def key(self) -> object:
        """Everything but times."""
        writing = None if self.writing is None else (forget(self.writing[0]), forget(self.writing[1].state))
        return (forget(self.memory), forget(self.record), self.vetoed, self.lifted_or_dead, self.journal, writing, self.left)


def forget(state: ModelState) -> object:
    """Give a state without times and ids."""
    rollout = state.rollout
    shape = rollout and (
        rollout.candidate,
        rollout.baseline,
        rollout.fallback,
        rollout.strategy,
        rollout.state,
        rollout.step,
        rollout.suspected,
    )
    return (
        state.live,
        state.stable,
        state.proven,
        shape,
        tuple(sorted(state.episodes)),
        min(len(state.withdrawals), 3),
        bool(state.frozen),
    )


def put(world: World, state: ModelState) -> World:
    return replace(world, memory=state)


def begin(world: World, change: Change) -> Iterator[tuple[str, World]]:
    """Giving is shared first: the change is on its way; memory stays as it is until it is written."""
    if change.state is not world.memory:
        yield "begins to write", replace(world, writing=(world.memory, change))


def write(world: World) -> Iterator[tuple[str, World]]:
    """Either the whole change is in the record or nothing of it; memory follows unless a withdrawal came in between."""
    assert world.writing is not None
    before, change = world.writing
    recorded = replace(world, record=change.state, writing=None)
    yield "written", put(recorded, change.state) if world.memory is before else recorded
    yield "not written", replace(world, writing=None)


def take(world: World, digest: str, cause: Cause, *, tombstone: bool) -> Iterator[tuple[str, World]]:
    """Taking away is local: memory, veto and journal at once, the record later."""
    change = withdraw(world.memory, Taking(digest, cause, NOW, tombstone, world.vetoed))
    if change.state is world.memory:
        return
    vetoed = world.vetoed | {digest} if tombstone else world.vetoed
    taken = replace(world, memory=change.state, vetoed=vetoed, journal=(*world.journal, (digest, cause, tombstone)))
    again = withdraw(taken.memory, Taking(digest, cause, NOW, tombstone, vetoed))
    # One incident, told twice, is one withdrawal: the second one finds the version nowhere in the route.
    assert again.state is taken.memory or digest in {pin.digest for pin in serving(taken.memory)}
    yield f"take {NUMBER[digest]} out ({cause}{'' if tombstone else ', kept'})", taken


def record_entry(world: World) -> Iterator[tuple[str, World]]:
    """The oldest decision reaches the record, computed from what the record holds then."""
    (digest, cause, tombstone), *rest = world.journal
    change = withdraw(world.record, Taking(digest, cause, NOW, tombstone, world.vetoed))
    dead = world.lifted_or_dead | {digest} if tombstone else world.lifted_or_dead
    memory = change.state
    for other, its_cause, its_tombstone in rest:
        memory = withdraw(memory, Taking(other, its_cause, NOW, its_tombstone, world.vetoed)).state
    yield "recorded", replace(world, record=change.state, memory=memory, lifted_or_dead=dead, journal=tuple(rest))


def restart(world: World) -> World:
    """A gateway that died knows the record and the journal, which it applies before it serves."""
    vetoed = world.lifted_or_dead | {digest for digest, _, tombstone in world.journal if tombstone}
    memory = world.record
    for digest, cause, tombstone in world.journal:
        memory = withdraw(memory, Taking(digest, cause, NOW, tombstone, vetoed)).state
    return replace(world, memory=memory, vetoed=frozenset(vetoed), writing=None)


def serving(state: ModelState) -> list[Pin]:
    split = state.split
    return [pin for pin in (split.main, split.candidate) if pin is not None]


def moves(world: World) -> Iterator[tuple[str, World]]:
    """Give everything that can happen next, with its name."""
    if world.writing is not None:
        yield from write(world)
    elif not world.journal:  # the model's lock: a record of a withdrawal and a change of the rollout wait for each other
        yield from give(world)
    if world.journal and world.writing is None:
        yield from record_entry(world)
    yield "crash", restart(world)
    for pin in serving(world.memory):
        yield from take(world, pin.digest, "judge", tombstone=True)
        if not world.journal:
            yield from take(world, pin.digest, "person", tombstone=False)


def give(world: World) -> Iterator[tuple[str, World]]:
    state = world.memory
    if world.left:
        for pin in PINS:
            for strategy in ("canary", "direct") if pin is PINS[1] else ("canary",):
                with_intent = Intent(pin.digest, strategy, POLICY, "ada", "")
                try:
                    check_intent(with_intent, pin, state, world.vetoed)
                except LastgoodError:
                    continue
                live = state.live if state.live and state.live.digest not in world.vetoed else None
                rollout = Rollout(f"{world.left}", "m", pin, live, live, strategy, POLICY)
                for name, after in begin(world, submit(state, rollout, NOW)):
                    yield f"release {pin.number} {strategy}: {name}", replace(after, left=world.left - 1)
    if state.running is not None:
        for kind in EventKind:
            if kind is not EventKind.BAD:
                for name, after in begin(world, step(state, kind, NOW)):
                    yield f"{kind}: {name}", after
    else:
        yield from begin(world, prove_live(state))
    if state.frozen is not None:
        yield from begin(world, Change(replace(state, frozen=None, withdrawals=())))
    for digest in world.vetoed:
        lifted = replace(world, vetoed=world.vetoed - {digest}, lifted_or_dead=world.lifted_or_dead - {digest})
        yield f"lift {NUMBER[digest]}", lifted


def check_alerts(state: ModelState) -> None:
    """Alerts of every version, firing or resolved, begun before its episode or in it: only those about what serves now count."""
    for pin in PINS:
        for began in (NOW - timedelta(hours=1), NOW + timedelta(seconds=1)):
            for firing in (True, False):
                ruling = rule(Alert("A", firing, "m", pin.number, "rollback", began, "", ""), {"m": state})
                counts = firing and began > NOW and pin in serving(state)
                assert ("rollback" if counts else "ignored", pin if counts else None) == (ruling.result, ruling.pin)


def check(world: World, path: str) -> None:
    """What must hold in every world."""
    for pin in serving(world.memory):
        assert pin.digest not in world.vetoed, f"{pin.number} is tombstoned and serves: {path}"
    if world.writing is None and not world.journal:
        assert forget(world.memory) == forget(world.record), f"memory and record differ: {path}"
        assert world.vetoed == world.lifted_or_dead, path
    split = world.memory.split
    assert split.candidate is None or split.main is not None, f"a candidate serves beside nothing: {path}"
    assert split.candidate is None or split.candidate != split.main, path
    running = world.memory.running
    if running is not None and running.state is State.SOAKING:
        assert world.memory.live == running.candidate, path


NOTHING = ModelState("m")
ONE_IS_STABLE = ModelState("m", live=PINS[0], stable=PINS[0], proven=(PINS[0],), episodes={PINS[0].digest: NOW.isoformat()})


@pytest.mark.slow
@pytest.mark.parametrize(("state", "releases"), [(NOTHING, 3), (ONE_IS_STABLE, 2)], ids=["from nothing", "from a stable version"])
def test_no_order_of_events_serves_a_tombstone_or_gets_stuck(state: ModelState, releases: int) -> None:
    """Breadth first through every reachable world; from each there is a way to one where nothing is under way."""
    start = World(state, state, left=releases)
    seen: dict[object, tuple[World, object | None, str]] = {start.key(): (start, None, "start")}
    before: dict[object, set[object]] = {}
    told: set[object] = set()
    queue = deque([start])
    while queue:
        world = queue.popleft()
        own = world.key()
        shape = forget(world.memory)
        if shape not in told:
            told.add(shape)
            check_alerts(world.memory)
        for name, after in moves(world):
            key = after.key()
            if "crash" not in name:
                before.setdefault(key, set()).add(own)
            if key not in seen:
                seen[key] = (after, own, name)
                check(after, explain(seen, key))
                queue.append(after)
    assert len(seen) > 1000
    rest = deque(key for key, (world, _, _) in seen.items() if world.memory.running is None and world.writing is None and not world.journal)
    reached = set(rest)
    while rest:
        for key in before.get(rest.popleft(), ()):
            if key not in reached:
                reached.add(key)
                rest.append(key)
    stuck = [key for key in seen if key not in reached]
    assert [] == [explain(seen, key) for key in stuck[:3]]


def explain(seen: dict[object, tuple[World, object | None, str]], key: object) -> str:
    """Give how a world came about."""
    names: list[str] = []
    while key is not None:
        _, before, name = seen[key]
        names.append(name)
        key = before
        if before is None:
            break
    return " → ".join(reversed(names))
