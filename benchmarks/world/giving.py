"""Giving is shared first: what is asked for is on its way to the record, and memory follows when it is written."""

from collections.abc import Iterator
from dataclasses import replace

from lastgood.errors import LastgoodError
from lastgood.serving.gateway.rollouts.alerts import rule
from lastgood.serving.gateway.rollouts.intents import Intent, check_intent
from lastgood.serving.gateway.rollouts.state import Change, Comparing, compare, end_comparison, prove_live, step, submit
from lastgood.serving.rollout.table import EventKind, Pin, Rollout, Strategy

from .known import NUMBER, PINS, POLICY, Gateway, World, at
from .recording import adopt, put, read_alert, record_state, tell_others

STRATEGIES: dict[Pin, tuple[Strategy, ...]] = {PINS[0]: ("canary",), PINS[1]: ("canary", "direct"), PINS[2]: ("shadow",)}
# Where two gateways multiply everything, what differs by a share only is left out.
FEWER_STEPS = (EventKind.READY, EventKind.SHADOW_PASSED, EventKind.STEP_PASSED, EventKind.SOAK_PASSED, EventKind.CLEARED)
STEPS = tuple(kind for kind in EventKind if kind not in {EventKind.BAD, EventKind.PROMOTE})


def _begin(world: World, index: int, change: Change) -> Iterator[tuple[str, World]]:
    """Giving is shared first: the change is on its way; memory stays as it is until it is written."""
    gateway = world.gateways[index]
    if change.state is not gateway.memory:
        yield "begins to write", put(world, index, replace(gateway, writing=(gateway.memory, change)))


def write(world: World, index: int) -> Iterator[tuple[str, World]]:
    """Either the whole change is in the record or nothing of it; memory follows unless a withdrawal came in between."""
    gateway = world.gateways[index]
    assert gateway.writing is not None  # noqa: S101 - the caller saw it
    before, change = gateway.writing
    done = replace(gateway, writing=None)
    if gateway.current:
        recorded = record_state(world, change.state, index)
        known = replace(done, memory=change.state if gateway.memory is before else gateway.memory)
        yield "written", put(recorded, index, known)
    else:  # somebody else wrote: what is recorded holds
        yield "refused", put(world, index, adopt(world, done))
    yield "not written", put(world, index, done)


def give(world: World, index: int) -> Iterator[tuple[str, World]]:
    """Begin what the rollout, an alert or a person may ask for."""
    gateway = world.gateways[index]
    state, now = gateway.memory, at(world.clock)
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
    state, now = gateway.memory, at(world.clock)
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
        lifted = put(replace(world, dead=world.dead - {digest}), index, replace(gateway, vetoed=gateway.vetoed - {digest}))
        yield f"lift {NUMBER[digest]}", tell_others(lifted, index)


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
        for name, after in _begin(world, index, end_comparison(state, at(world.clock))):
            yield f"replace the comparison: {name}", after
        return
    live = state.live if state.live and state.live.digest not in gateway.vetoed else None
    rollout = Rollout(f"{world.clock}", "m", pin, live, live, strategy, POLICY)
    for name, after in _begin(world, index, submit(state, rollout, at(world.clock))):
        yield f"release {pin.number} {strategy}: {name}", replace(after, releases=world.releases - 1)


def _compare(world: World, index: int, number: int) -> Iterator[tuple[str, World]]:
    gateway = replace(world.gateways[index], asked=None)
    idle = put(world, index, gateway)
    ruling = rule(read_alert(world, number), {"m": gateway.memory})
    change = compare(gateway.memory, Comparing(f"{world.clock}", 1, at(world.clock), excluded=gateway.vetoed))
    if ruling.result == "compare" and change.state is not gateway.memory:
        for name, after in _begin(idle, index, change):
            yield f"comparison: {name}", after
    else:
        yield "no comparison", idle
