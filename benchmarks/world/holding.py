"""How a world begins, what must hold in it, and when nothing is under way."""

from lastgood.serving.gateway.rollouts.alerts import Action
from lastgood.serving.gateway.rollouts.state import ModelState
from lastgood.serving.rollout.table import State

from .known import PINS, Gateway, World, to_iso


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
        state = ModelState("m", live=two, stable=two, proven=(two, one), episodes={two.digest: to_iso(0)})
    return World(state, (Gateway(state),) * gateways, releases=releases, incidents=incidents, cuts=cuts, actions=actions)
