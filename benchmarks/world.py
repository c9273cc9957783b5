"""
A small world: one model with three versions, one gateway or two that share a record, and everything that can happen next.

Memory is what a gateway knows, the record what the registry holds, the journal what is decided and not recorded yet. The
pure functions are the product's. `moves` gives every next world: an action that writes may be cut off before or after its
write, a withdrawal may overtake a change that is being written, an alert may come at any time and as often as it likes, and
a gateway may be cut off from the record. The model checker explores all of them, `schedules.py` walks through some at random.

Times are whole seconds of the world's own clock; a world's `key` keeps only their order, so that there are finitely many.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from lastgood.errors import LastgoodError
from lastgood.serving.gateway.alerts import Action, Alert, rule
from lastgood.serving.gateway.intents import Intent, check_intent
from lastgood.serving.gateway.state import (
    Change,
    Comparing,
    ModelState,
    Taking,
    compare,
    end_comparison,
    find_local_split,
    prove_live,
    step,
    submit,
    withdraw,
)
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import Cause, EventKind, Pin, Rollout, Split, State, Strategy

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = RolloutPolicy(steps=(0.1,), freeze_after=2, freeze_window_seconds=1e9)
PINS = tuple(Pin(number, f"sha256:{number}") for number in (1, 2, 3))
NUMBER = {pin.digest: pin.number for pin in PINS}
STRATEGIES: dict[Pin, tuple[Strategy, ...]] = {PINS[0]: ("canary",), PINS[1]: ("canary", "direct"), PINS[2]: ("shadow",)}
# Where two gateways multiply everything, what differs by a share only is left out.
FEWER_STEPS = (EventKind.READY, EventKind.SHADOW_PASSED, EventKind.STEP_PASSED, EventKind.SOAK_PASSED, EventKind.CLEARED)
STEPS = tuple(kind for kind in EventKind if kind not in {EventKind.BAD, EventKind.PROMOTE})


@dataclass(frozen=True)
class Entry:
    """A decision in a journal; ``incident`` is what it was decided because of."""

    digest: str
    cause: Cause
    tombstone: bool
    incident: str
    time: int
    since: str | None  # when the version had come in

    def taking(self, vetoed: frozenset[str]) -> Taking:
        """Give what is to be done about it."""
        return Taking(self.digest, self.cause, _at(self.time), self.tombstone, vetoed, since=self.since)


@dataclass(frozen=True)
class Gateway:
    """What one gateway knows; ``writing`` is a change on its way to the record, with the state it was computed from."""

    memory: ModelState
    vetoed: frozenset[str] = frozenset()
    journal: tuple[Entry, ...] = ()
    writing: tuple[ModelState, Change] | None = None
    asked: int | None = None  # the alert for which a comparison is about to begin
    decided: frozenset[str] = frozenset()  # incidents because of which something was taken out here
    current: bool = True  # whether it has seen the record's newest generation
    reach: str = "up"  # or "cut": it cannot reach the record; or "alone": for so long that it gives a rollout's fallback only

    @property
    def split(self) -> Split:
        """Who gets what here."""
        return find_local_split(self.memory, self.vetoed) if self.reach == "alone" else self.memory.split

    @property
    def serving(self) -> list[Pin]:
        """Versions that answer here, or get copies."""
        split = self.split
        return [pin for pin in (split.main, split.candidate, split.shadow) if pin is not None]


@dataclass(frozen=True)
class World:
    """What is known where, and what may still happen."""

    record: ModelState
    gateways: tuple[Gateway, ...]
    dead: frozenset[str] = frozenset()  # tombstones in the record
    alerts: tuple[tuple[Pin, Action, int], ...] = ()  # that were ever firing, with when they began; each may come again
    charged: frozenset[str] = frozenset()  # incidents for which the record has a withdrawal
    clock: int = 1
    releases: int = 0  # that may still be begun
    incidents: int = 0  # alerts that may still begin to fire
    cuts: int = 0  # how often the last gateway may still lose the record
    actions: tuple[Action, ...] = ("rollback", "compare")  # what alerts may ask for
    problem: str = ""  # what must never happen, and did

    def key(self) -> object:
        """Everything that matters, with times by their order only."""
        times: set[str] = set()
        states = [self.record, *(g.memory for g in self.gateways)]
        states += [own for g in self.gateways if g.writing for own in (g.writing[0], g.writing[1].state)]
        for state in states:
            times.update(state.episodes.values())
            times.update(state.compared.values())
        times.update(entry.since for g in self.gateways for entry in g.journal if entry.since)
        times.update(_iso(began) for _, _, began in self.alerts)
        # Nobody but an alert asks when something came in.
        rank = {time: index for index, time in enumerate(sorted(times))} if world_has_alerts(self) else {}
        running = {state.running.id for state in states if state.running}
        gateways = tuple(
            (
                forget(g.memory, rank),
                g.vetoed,
                tuple((e.digest, e.cause, e.tombstone, e.incident in self.charged, rank.get(e.since or "", -1)) for e in g.journal),
                None if g.writing is None else (g.writing[0] is g.memory, forget(g.writing[1].state, rank)),
                g.asked,
                tuple(sorted(name if name[0] == "a" else "r" for name in g.decided if name[0] == "a" or name[1:] in running)),
                g.current,
                g.reach,
            )
            for g in self.gateways
        )
        alerts = tuple((pin.number, action, rank[_iso(began)]) for pin, action, began in self.alerts)
        told = {name for name in self.charged if name[0] == "a" or name[1:] in running}
        budget = (self.releases, self.incidents, self.cuts)
        return forget(self.record, rank), self.dead, gateways, alerts, len(told), budget, self.problem


def world_has_alerts(world: World) -> bool:
    """Say whether an alert was or may still be firing."""
    return bool(world.alerts or world.incidents)


def forget(state: ModelState, rank: dict[str, int]) -> object:
    """Give a state without ids, and with times by their order."""
    rollout = state.rollout
    shape = rollout and (
        rollout.candidate.number,
        rollout.baseline and rollout.baseline.number,
        rollout.fallback and rollout.fallback.number,
        rollout.strategy,
        rollout.state,
        rollout.step,
        rollout.suspected,
        rollout.halved,
        rollout.comparison,
    )
    return (
        state.live and state.live.number,
        state.stable and state.stable.number,
        tuple(pin.number for pin in state.proven),
        shape,
        tuple(sorted((digest, rank.get(time, -1)) for digest, time in state.episodes.items())),
        tuple(sorted((digest, rank.get(time, -1)) for digest, time in state.compared.items())),
        min(len(state.withdrawals), POLICY.freeze_after),
        bool(state.frozen),
    )


def moves(world: World) -> Iterator[tuple[str, World]]:
    """Give everything that can happen next, with its name."""
    for index, gateway in enumerate(world.gateways):
        for name, after in _moves_of(world, index, gateway):
            yield (name if len(world.gateways) == 1 else f"{index + 1}: {name}"), replace(after, clock=world.clock + 1)
    if world.incidents:
        for pin in dict.fromkeys(pin for gateway in world.gateways for pin in gateway.serving):
            for action in world.actions:
                alerts = (*world.alerts, (pin, action, world.clock))
                yield (
                    f"an alert begins: {action} {pin.number}",
                    replace(world, alerts=alerts, incidents=world.incidents - 1, clock=world.clock + 1),
                )


def _moves_of(world: World, index: int, gateway: Gateway) -> Iterator[tuple[str, World]]:
    if gateway.reach != "up":
        if gateway.reach == "cut":
            yield "cut off for 5 s", _put(world, index, replace(gateway, reach="alone"))
        yield "reaches the record again", _put(world, index, _adopt(world, replace(gateway, reach="up")))
    else:
        yield from _moves_with_record(world, index, gateway)
    running = gateway.memory.running
    for pin in gateway.serving:
        if running is not None and pin == running.candidate:
            yield from _take(world, index, pin.digest, "judge", tombstone=True, incident=f"r{running.id}")
    if len(world.gateways) == 1 and not gateway.journal:
        for pin in gateway.serving:
            yield from _take(world, index, pin.digest, "person", tombstone=False, incident=f"p{world.clock}")
    for number, _ in enumerate(world.alerts):
        yield from _hear(world, index, number)


def _moves_with_record(world: World, index: int, gateway: Gateway) -> Iterator[tuple[str, World]]:
    if gateway.writing is not None:
        yield from _write(world, index)
    elif gateway.journal:  # what is given does not overtake what was taken away: it is recorded first
        yield from _record_entry(world, index)
    elif not gateway.current:
        yield "reads the record", _put(world, index, _adopt(world, gateway))
    else:
        yield from _give(world, index)
    idle = replace(gateway, writing=None, asked=None)
    yield "crash", _put(world, index, _adopt(world, replace(idle, decided=frozenset())))
    if world.cuts and index == len(world.gateways) - 1:
        cut = replace(world, cuts=world.cuts - 1)
        lost = [("", cut)] if gateway.writing is None else _write(cut, index)
        for name, after in lost:
            yield f"cut off {name}", _put(after, index, replace(idle, reach="cut", current=False))


# --- giving -----------------------------------------------------------------------------------------------------------


def _begin(world: World, index: int, change: Change) -> Iterator[tuple[str, World]]:
    """Giving is shared first: the change is on its way; memory stays as it is until it is written."""
    gateway = world.gateways[index]
    if change.state is not gateway.memory:
        yield "begins to write", _put(world, index, replace(gateway, writing=(gateway.memory, change)))


def _write(world: World, index: int) -> Iterator[tuple[str, World]]:
    """Either the whole change is in the record or nothing of it; memory follows unless a withdrawal came in between."""
    gateway = world.gateways[index]
    assert gateway.writing is not None  # noqa: S101 - the caller saw it
    before, change = gateway.writing
    done = replace(gateway, writing=None)
    if gateway.current:
        recorded = _record(world, change.state, index)
        known = replace(done, memory=change.state if gateway.memory is before else gateway.memory)
        yield "written", _put(recorded, index, known)
    else:  # somebody else wrote: what is recorded holds
        yield "refused", _put(world, index, _adopt(world, done))
    yield "not written", _put(world, index, done)


def _give(world: World, index: int) -> Iterator[tuple[str, World]]:
    gateway = world.gateways[index]
    state, now = gateway.memory, _at(world.clock)
    if gateway.asked is not None:
        yield from _compare(world, index, gateway.asked)
    if state.running is not None:
        for kind in STEPS if len(world.gateways) == 1 else FEWER_STEPS:
            for name, after in _begin(world, index, step(state, kind, now)):
                yield f"{kind}: {name}", after
    if index == 0:  # persons talk to one gateway
        yield from _ask(world, index, gateway)


def _ask(world: World, index: int, gateway: Gateway) -> Iterator[tuple[str, World]]:
    """What a person may ask for."""
    state, now = gateway.memory, _at(world.clock)
    if world.releases:
        for pin in PINS:
            for strategy in STRATEGIES[pin]:
                yield from _release(world, index, pin, strategy)
    if state.running is not None:
        for name, after in _begin(world, index, step(state, EventKind.PROMOTE, now)):
            yield f"promote: {name}", after
    else:
        yield from _begin(world, index, prove_live(state))
    if state.frozen is not None:
        yield from _begin(world, index, Change(replace(state, frozen=None, withdrawals=())))
    for digest in gateway.vetoed & world.dead:
        lifted = _put(replace(world, dead=world.dead - {digest}), index, replace(gateway, vetoed=gateway.vetoed - {digest}))
        yield f"lift {NUMBER[digest]}", _tell_others(lifted, index)


def _release(world: World, index: int, pin: Pin, strategy: Strategy) -> Iterator[tuple[str, World]]:
    gateway = world.gateways[index]
    state = gateway.memory
    comparison = state.running is not None and state.running.comparison
    intent = Intent(pin.digest, strategy, POLICY, "ada", "", replace=comparison)
    try:
        check_intent(intent, pin, state, gateway.vetoed)
    except LastgoodError:
        return
    if comparison:
        for name, after in _begin(world, index, end_comparison(state, _at(world.clock))):
            yield f"replace the comparison: {name}", after
        return
    live = state.live if state.live and state.live.digest not in gateway.vetoed else None
    rollout = Rollout(f"{world.clock}", "m", pin, live, live, strategy, POLICY)
    for name, after in _begin(world, index, submit(state, rollout, _at(world.clock))):
        yield f"release {pin.number} {strategy}: {name}", replace(after, releases=world.releases - 1)


def _compare(world: World, index: int, number: int) -> Iterator[tuple[str, World]]:
    gateway = replace(world.gateways[index], asked=None)
    idle = _put(world, index, gateway)
    ruling = rule(_alert(world, number), {"m": gateway.memory})
    change = compare(gateway.memory, Comparing(f"{world.clock}", 1, _at(world.clock), excluded=gateway.vetoed))
    if ruling.result == "compare" and change.state is not gateway.memory:
        for name, after in _begin(idle, index, change):
            yield f"comparison: {name}", after
    else:
        yield "no comparison", idle


# --- taking away ------------------------------------------------------------------------------------------------------


def _take(world: World, index: int, digest: str, cause: Cause, *, tombstone: bool, incident: str) -> Iterator[tuple[str, World]]:
    """Taking away is local: memory, veto and journal at once, the record later."""
    gateway = world.gateways[index]
    if incident in gateway.decided:
        return
    change = withdraw(gateway.memory, Taking(digest, cause, _at(world.clock), tombstone, gateway.vetoed))
    if change.state is gateway.memory:
        return
    vetoed = gateway.vetoed | {digest} if tombstone else gateway.vetoed
    # An alert speaks of what served when it began, also where another gateway knows of a newer episode.
    since = _iso(world.alerts[int(incident[1:])][2]) if cause == "alert" else gateway.memory.episodes.get(digest)
    entry = Entry(digest, cause, tombstone, incident, world.clock, since)
    after = replace(gateway, memory=change.state, vetoed=vetoed, journal=(*gateway.journal, entry), decided=gateway.decided | {incident})
    problem = world.problem
    again = withdraw(after.memory, Taking(digest, cause, _at(world.clock), tombstone, vetoed))
    if again.state is not after.memory and digest not in {pin.digest for pin in after.serving}:
        problem = "the same withdrawal told twice changes something the second time"
    kept = "" if tombstone else ", kept"
    yield f"take {NUMBER[digest]} out ({cause}{kept})", replace(_put(world, index, after), problem=problem)


def _record_entry(world: World, index: int) -> Iterator[tuple[str, World]]:
    """
    The oldest decision reaches the record, computed from what the record holds then, tombstones of others included.

    What is recorded already because of the same incident is done. What goes on serving, because it has come in anew or there
    is nothing to go back to, is no tombstone.
    """
    gateway = world.gateways[index]
    entry, *rest = gateway.journal
    own = replace(gateway, journal=tuple(rest))
    if entry.incident in world.charged:
        yield "recorded before", _put(world, index, _adopt(world, own))
        return
    change = withdraw(world.record, entry.taking(gateway.vetoed | world.dead))
    buried = entry.tombstone and not change.state.serves(entry.digest)
    after = replace(world, charged=world.charged | {entry.incident}, dead=world.dead | {entry.digest} if buried else world.dead)
    if change.state is not world.record:
        problem = _find_stale(world, entry) or world.problem
        after = replace(_record(after, change.state, index), problem=problem)
    elif buried:
        after = _tell_others(after, index)
    if change.state.serves(entry.digest):
        own = replace(own, decided=own.decided - {entry.incident})
    yield "recorded", _put(after, index, _adopt(after, own))


def _find_stale(world: World, entry: Entry) -> str | None:
    """Say whether an alert took something out of the record that came in after the alert had begun."""
    came_in = world.record.episodes.get(entry.digest)
    if entry.cause == "alert" and came_in is not None and _iso(world.alerts[int(entry.incident[1:])][2]) < came_in:
        return f"{entry.incident} began before version {NUMBER[entry.digest]} came in, and took it out"
    return None


def _hear(world: World, index: int, number: int) -> Iterator[tuple[str, World]]:
    """An alert comes: the first time, again, late, or after another one; what it means is for the product to say."""
    gateway = world.gateways[index]
    ruling = rule(_alert(world, number), {"m": gateway.memory})
    if ruling.pin is None:
        return
    if ruling.result == "rollback":
        yield from _take(world, index, ruling.pin.digest, "alert", tombstone=True, incident=f"a{number}")
    elif gateway.reach == "up" and gateway.memory.running is None and gateway.asked is None:
        yield f"hears alert {number}", _put(world, index, replace(gateway, asked=number))


# --- the record -------------------------------------------------------------------------------------------------------


def _record(world: World, state: ModelState, index: int) -> World:
    """Put a state into the record under the next generation, which only the gateway that writes has seen."""
    return _tell_others(replace(world, record=state), index)


def _tell_others(world: World, index: int) -> World:
    """Only the gateway that wrote has seen the newest generation."""
    gateways = tuple(own if number == index else replace(own, current=False) for number, own in enumerate(world.gateways))
    return replace(world, gateways=gateways)


def _adopt(world: World, gateway: Gateway) -> Gateway:
    """What a gateway knows after it has read the record: that, and its own open decisions applied to it."""
    vetoed = world.dead | {entry.digest for entry in gateway.journal if entry.tombstone}
    memory = world.record
    for entry in gateway.journal:
        memory = withdraw(memory, entry.taking(frozenset(vetoed))).state
    # A decision that cannot be carried out any more, for there is nothing to go back to or the version has come in anew, is no veto.
    vetoed = world.dead | {entry.digest for entry in gateway.journal if entry.tombstone and not memory.serves(entry.digest)}
    return replace(gateway, memory=memory, vetoed=vetoed, current=True)


def _put(world: World, index: int, gateway: Gateway) -> World:
    return replace(world, gateways=(*world.gateways[:index], gateway, *world.gateways[index + 1 :]))


def _alert(world: World, number: int) -> Alert:
    pin, action, began = world.alerts[number]
    return Alert("A", True, "m", pin.number, action, _at(began), "", f"{number}")


def _at(clock: int) -> datetime:
    return EPOCH + timedelta(seconds=clock)


def _iso(clock: int) -> str:
    return _at(clock).isoformat()


# --- what must hold -----------------------------------------------------------------------------------------------------


def find_problem(world: World) -> str | None:
    """Say what is wrong with a world, None if nothing is."""
    if world.problem:
        return world.problem
    for number, gateway in enumerate(world.gateways, 1):
        if bad := [pin.number for pin in gateway.serving if pin.digest in gateway.vetoed]:
            return f"gateway {number} serves {bad}, which it knows to be tombstoned"
        split = gateway.split
        if split.candidate is not None and split.main in {None, split.candidate}:
            return f"gateway {number} has a candidate beside nothing or itself"
        running = gateway.memory.running
        if running is not None and running.state is State.SOAKING and gateway.memory.live != running.candidate:
            return f"gateway {number} soaks what is not live"
    split = world.record.split
    if bad := [pin.number for pin in (split.main, split.candidate, split.shadow) if pin is not None and pin.digest in world.dead]:
        return f"the record's route has {bad}, which are tombstoned"
    if is_quiet(world):
        for number, gateway in enumerate(world.gateways, 1):
            if gateway.memory != world.record or gateway.vetoed != world.dead:
                return f"nothing is under way, and gateway {number} knows something else than the record"
    return None


def is_quiet(world: World) -> bool:
    """Say whether nothing is on its way between gateways and record."""
    return all(own.writing is None and not own.journal and own.current and own.reach == "up" for own in world.gateways)


def is_settled(world: World) -> bool:
    """Say whether nothing is under way at all, no rollout either."""
    return is_quiet(world) and world.record.running is None


def begin_world(
    *,
    stable: bool,
    gateways: int = 1,
    releases: int = 0,
    incidents: int = 0,
    cuts: int = 0,
    actions: tuple[Action, ...] = ("rollback", "compare"),
) -> World:
    """Give the world at its begin: nothing served, or version 2 stable after version 1."""
    state = ModelState("m")
    if stable:
        two, one = PINS[1], PINS[0]
        state = ModelState("m", live=two, stable=two, proven=(two, one), episodes={two.digest: _iso(0)})
    return World(state, (Gateway(state),) * gateways, releases=releases, incidents=incidents, cuts=cuts, actions=actions)
