"""Taking away is local: memory, veto and journal at once, the record later."""

from collections.abc import Iterator
from dataclasses import replace

from lastgood.serving.gateway.rollouts.alerts import rule
from lastgood.serving.gateway.rollouts.state import Taking, withdraw
from lastgood.serving.rollout.table import Cause

from .known import NUMBER, Entry, World, at, to_iso
from .recording import adopt, put, read_alert, record_state, tell_others


def take(world: World, index: int, digest: str, cause: Cause, *, tombstone: bool, incident: str) -> Iterator[tuple[str, World]]:
    """Take a version out where that changes anything; told twice it must change nothing more."""
    gateway = world.gateways[index]
    if incident in gateway.decided:
        return
    change = withdraw(gateway.memory, Taking(digest, cause, at(world.clock), tombstone, gateway.vetoed))
    if change.state is gateway.memory:
        return
    vetoed = gateway.vetoed | {digest} if tombstone else gateway.vetoed
    # An alert speaks of what served when it began, also where another gateway knows of a newer episode.
    since = to_iso(world.alerts[int(incident[1:])][2]) if cause == "alert" else gateway.memory.episodes.get(digest)
    entry = Entry(digest, cause, tombstone, incident, world.clock, since)
    after = replace(gateway, memory=change.state, vetoed=vetoed, journal=(*gateway.journal, entry), decided=gateway.decided | {incident})
    problem = world.problem
    again = withdraw(after.memory, Taking(digest, cause, at(world.clock), tombstone, vetoed))
    if again.state is not after.memory and digest not in {pin.digest for pin in after.serving}:
        problem = "the same withdrawal told twice changes something the second time"
    kept = "" if tombstone else ", kept"
    yield f"take {NUMBER[digest]} out ({cause}{kept})", replace(put(world, index, after), problem=problem)


def record_entry(world: World, index: int) -> Iterator[tuple[str, World]]:
    """
    The oldest decision reaches the record, computed from what the record holds then, tombstones of others included.

    What is recorded already because of the same incident is done. What goes on serving, because it has come in anew or there
    is nothing to go back to, is no tombstone.
    """
    gateway = world.gateways[index]
    entry, *rest = gateway.journal
    own = replace(gateway, journal=tuple(rest))
    if entry.incident in world.charged:
        yield "recorded before", put(world, index, adopt(world, own))
        return
    change = withdraw(world.record, entry.taking(gateway.vetoed | world.dead))
    buried = entry.tombstone and not change.state.serves(entry.digest)
    after = replace(world, charged=world.charged | {entry.incident}, dead=world.dead | {entry.digest} if buried else world.dead)
    if change.state is not world.record:
        problem = _find_stale(world, entry) or world.problem
        after = replace(record_state(after, change.state, index), problem=problem)
    elif buried:
        after = tell_others(after, index)
    if change.state.serves(entry.digest):
        own = replace(own, decided=own.decided - {entry.incident})
    yield "recorded", put(after, index, adopt(after, own))


def _find_stale(world: World, entry: Entry) -> str | None:
    """Say whether an alert took something out of the record that came in after the alert had begun."""
    came_in = world.record.episodes.get(entry.digest)
    if entry.cause == "alert" and came_in is not None and to_iso(world.alerts[int(entry.incident[1:])][2]) < came_in:
        return f"{entry.incident} began before version {NUMBER[entry.digest]} came in, and took it out"
    return None


def hear(world: World, index: int, number: int) -> Iterator[tuple[str, World]]:
    """An alert comes: the first time, again, late, or after another one; what it means is for the product to say."""
    gateway = world.gateways[index]
    ruling = rule(read_alert(world, number), {"m": gateway.memory})
    if ruling.pin is None:
        return
    if ruling.result == "rollback":
        yield from take(world, index, ruling.pin.digest, "alert", tombstone=True, incident=f"a{number}")
    elif gateway.reach == "up" and gateway.memory.running is None and gateway.asked is None:
        yield f"hears alert {number}", put(world, index, replace(gateway, asked=number))
