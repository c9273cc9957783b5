"""Everything that can happen next."""

from collections.abc import Iterator
from dataclasses import replace

from .giving import give, write
from .known import Gateway, World
from .recording import adopt, put
from .taking import hear, record_entry, take


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
            yield "cut off for 5 s", put(world, index, replace(gateway, reach="alone"))
        yield "reaches the record again", put(world, index, adopt(world, replace(gateway, reach="up")))
    else:
        yield from _moves_with_record(world, index, gateway)
    running = gateway.memory.running
    for pin in gateway.serving:
        if running is not None and pin == running.candidate:
            yield from take(world, index, pin.digest, "judge", tombstone=True, incident=f"r{running.id}")
    if len(world.gateways) == 1 and not gateway.journal:
        for pin in gateway.serving:
            yield from take(world, index, pin.digest, "person", tombstone=False, incident=f"p{world.clock}")
    for number, _ in enumerate(world.alerts):
        yield from hear(world, index, number)


def _moves_with_record(world: World, index: int, gateway: Gateway) -> Iterator[tuple[str, World]]:
    if gateway.writing is not None:
        yield from write(world, index)
    elif gateway.journal:  # what is given does not overtake what was taken away: it is recorded first
        yield from record_entry(world, index)
    elif not gateway.current:
        yield "reads the record", put(world, index, adopt(world, gateway))
    else:
        yield from give(world, index)
    idle = replace(gateway, writing=None, asked=None)
    yield "crash", put(world, index, adopt(world, replace(idle, decided=frozenset())))
    if world.cuts and index == len(world.gateways) - 1:
        cut = replace(world, cuts=world.cuts - 1)
        lost = [("", cut)] if gateway.writing is None else write(cut, index)
        for name, after in lost:
            yield f"cut off {name}", put(after, index, replace(idle, reach="cut", current=False))
