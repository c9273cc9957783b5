"""What is known where: a gateway, its journal, the record, and what may still happen; and when two worlds are the same."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lastgood.serving.gateway.rollouts.alerts import Action
from lastgood.serving.gateway.rollouts.state import Change, ModelState, Taking, find_local_split
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import Cause, Pin, Split

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = RolloutPolicy(steps=(0.1,), freeze_after=2, freeze_window_seconds=1e9)
PINS = tuple(Pin(number, f"sha256:{number}") for number in (1, 2, 3))
NUMBER = {pin.digest: pin.number for pin in PINS}


def at(clock: int) -> datetime:
    """Give a time of the world's clock."""
    return EPOCH + timedelta(seconds=clock)


def to_iso(clock: int) -> str:
    """Give a time of the world's clock as states have it."""
    return at(clock).isoformat()


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
        return Taking(self.digest, self.cause, at(self.time), self.tombstone, vetoed, since=self.since)


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
        times.update(to_iso(began) for _, _, began in self.alerts)
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
        alerts = tuple((pin.number, action, rank[to_iso(began)]) for pin, action, began in self.alerts)
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
