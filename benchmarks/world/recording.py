"""The record, and how gateways follow it."""

from dataclasses import replace

from lastgood.serving.gateway.rollouts.alerts import Alert
from lastgood.serving.gateway.rollouts.state import ModelState, withdraw

from .known import Gateway, World, at


def record_state(world: World, state: ModelState, index: int) -> World:
    """Put a state into the record under the next generation, which only the gateway that writes has seen."""
    return tell_others(replace(world, record=state), index)


def tell_others(world: World, index: int) -> World:
    """Only the gateway that wrote has seen the newest generation."""
    gateways = tuple(own if number == index else replace(own, current=False) for number, own in enumerate(world.gateways))
    return replace(world, gateways=gateways)


def adopt(world: World, gateway: Gateway) -> Gateway:
    """What a gateway knows after it has read the record: that, and its own open decisions applied to it."""
    vetoed = world.dead | {entry.digest for entry in gateway.journal if entry.tombstone}
    memory = world.record
    for entry in gateway.journal:
        memory = withdraw(memory, entry.taking(frozenset(vetoed))).state
    # A decision that cannot be carried out any more, for there is nothing to go back to or the version has come in anew, is no veto.
    vetoed = world.dead | {entry.digest for entry in gateway.journal if entry.tombstone and not memory.serves(entry.digest)}
    return replace(gateway, memory=memory, vetoed=vetoed, current=True)


def put(world: World, index: int, gateway: Gateway) -> World:
    """Put what a gateway knows now into the world."""
    return replace(world, gateways=(*world.gateways[:index], gateway, *world.gateways[index + 1 :]))


def read_alert(world: World, number: int) -> Alert:
    """Give an alert of the world as the gateway reads it."""
    pin, action, began = world.alerts[number]
    return Alert("A", True, "m", pin.number, action, at(began), "", f"{number}")
