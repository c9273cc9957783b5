"""
The rollout table: (state, event) → (state, effects).

    staged ──ready──► [shadow] ──► canary ──step-passed──► … ──step-passed──► soaking ──soak-passed──► stable
       │                  │           │                                          │                       │
       └──────────────────┴───────────┴───────────── bad ────────────────────────┴───────────────────────┴──► withdrawn

`advance` is the only place where a rollout changes. It does no I/O and knows no time: whoever calls it carries out the
effects, in order, and keeps the result. `route_of` says who gets what in each state, so that the route is never
remembered apart from the rollout.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

from lastgood.serving.rollout.policy import RolloutPolicy, read_policy

Strategy = Literal["canary", "direct", "shadow"]
Cause = Literal["judge", "alert", "person", "not-ready"]


class State(StrEnum):
    """Where a rollout stands."""

    STAGED = "staged"
    SHADOW = "shadow"  # gets copies of requests; its answers are compared and never returned
    CANARY = "canary"
    SOAKING = "soaking"
    STABLE = "stable"
    WITHDRAWN = "withdrawn"


RUNNING = frozenset({State.STAGED, State.SHADOW, State.CANARY, State.SOAKING})


class EventKind(StrEnum):
    """What can happen to a rollout."""

    READY = "ready"  # a replica verified the bytes and gave the golden answers
    NOT_READY = "not-ready"  # it will not
    SHADOW_PASSED = "shadow-passed"
    STEP_PASSED = "step-passed"
    SOAK_PASSED = "soak-passed"
    PROMOTE = "promote"  # a person ends the rollout early
    SUSPECTED = "suspected"
    HALVED = "halved"  # suspected on evidence that comes slowly: half of the requests decide sooner
    CLEARED = "cleared"
    BAD = "bad"


class Effect(StrEnum):
    """What the caller must do, beside putting `route_of` in place."""

    LIVE_TO_CANDIDATE = "live-to-candidate"
    LIVE_TO_FALLBACK = "live-to-fallback"
    STABLE_TO_CANDIDATE = "stable-to-candidate"
    TOMBSTONE = "tombstone"
    PAGE = "page"  # bad, and nothing to go back to: keep serving, wake somebody


@dataclass(frozen=True, slots=True)
class Pin:
    """One version, absolutely: its number and its digest."""

    number: int
    digest: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; ``cause`` and ``tombstone`` belong to `EventKind.BAD`."""

    kind: EventKind
    cause: Cause | None = None
    tombstone: bool = True


@dataclass(frozen=True, slots=True)
class Rollout:
    """One release's part in serving."""

    id: str
    model: str
    candidate: Pin
    baseline: Pin | None  # what it is compared with; None for a first version
    fallback: Pin | None  # what comes back when it goes bad
    strategy: Strategy = "canary"
    policy: RolloutPolicy = field(default_factory=RolloutPolicy)
    seed: int = 0  # of the coin
    state: State = State.STAGED
    step: int = 0
    suspected: bool = False
    halved: bool = False  # a suspect that gets half, also where its step gives it less
    cause: Cause | None = None  # of the withdrawal
    comparison: bool = False  # no release: the live version beside a proven one, because an alert asked

    def to_json(self) -> dict[str, Any]:
        """Give the form that is persisted."""
        return {**asdict(self), "policy": self.policy.model_dump(mode="json"), "seed": str(self.seed)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Rollout":
        """Read what `to_json` wrote."""
        pins = {name: Pin(**value[name]) if value[name] else None for name in ("baseline", "fallback")}
        policy = read_policy(dict(value["policy"]), source="the persisted rollout")
        # JSON numbers are doubles to many readers, and a 64-bit seed does not fit one.
        read = {"candidate": Pin(**value["candidate"]), "policy": policy, "state": State(value["state"]), "seed": int(value["seed"])}
        return cls(**{**value, **pins, **read})


@dataclass(frozen=True, slots=True)
class Split:
    """Who gets what: everything to ``main`` but ``share`` to ``candidate``; ``shadow`` gets copies of what ``main`` gets."""

    main: Pin | None
    candidate: Pin | None
    share: float
    shadow: Pin | None = None


Outcome = tuple[Rollout, tuple[Effect, ...]]


def route_of(rollout: Rollout) -> Split:
    """Say who gets what in the rollout's state; ``main`` is None while a first version is not ready or was withdrawn."""
    match rollout.state:
        case State.STAGED:
            return Split(rollout.baseline, None, 0.0)
        case State.SHADOW:
            return Split(rollout.baseline, None, 0.0, shadow=rollout.candidate)
        case State.CANARY:
            return Split(rollout.baseline, rollout.candidate, _share(rollout, rollout.policy.steps[rollout.step]))
        case State.SOAKING if rollout.baseline is not None:
            return Split(rollout.baseline, rollout.candidate, _share(rollout, rollout.policy.soak_share))
        case State.SOAKING | State.STABLE:
            return Split(rollout.candidate, None, 0.0)
        case State.WITHDRAWN:
            return Split(rollout.fallback, None, 0.0)


def advance(rollout: Rollout, event: Event) -> Outcome:
    """
    Give the rollout after an event, and what must be done.

    An event that means nothing in a state (a late alert, a second "ready") changes nothing and asks for nothing.
    """
    handler = TABLE.get((rollout.state, event.kind))
    return (rollout, ()) if handler is None else handler(rollout, event)


def _share(rollout: Rollout, planned: float) -> float:
    # A suspect gets no more than half: from there evidence comes fastest. Below half a step is left as it is, for raising
    # it would multiply the bad answers of a version that fails always; one that fails seldom gets half.
    if rollout.halved:
        return 0.5
    return min(planned, 0.5) if rollout.suspected else planned


def _start(rollout: Rollout, _: Event) -> Outcome:
    if rollout.baseline is not None and rollout.strategy == "shadow":
        return replace(rollout, state=State.SHADOW), ()
    if rollout.baseline is not None and rollout.strategy == "canary":
        return replace(rollout, state=State.CANARY), ()
    return replace(rollout, state=State.SOAKING), (Effect.LIVE_TO_CANDIDATE,)


def _refuse(rollout: Rollout, _: Event) -> Outcome:
    # The bytes may be good and this host not: no tombstone.
    return replace(rollout, state=State.WITHDRAWN, cause="not-ready"), ()


def _leave_shadow(rollout: Rollout, _: Event) -> Outcome:
    return replace(rollout, state=State.CANARY), ()


def _next_step(rollout: Rollout, _: Event) -> Outcome:
    if rollout.suspected:
        return rollout, ()
    if rollout.step + 1 < len(rollout.policy.steps):
        return replace(rollout, step=rollout.step + 1), ()
    return replace(rollout, state=State.SOAKING), (Effect.LIVE_TO_CANDIDATE,)


def _settle(rollout: Rollout, _: Event) -> Outcome:
    if rollout.suspected:
        return rollout, ()
    return replace(rollout, state=State.STABLE), (Effect.STABLE_TO_CANDIDATE,)


def _promote_canary(rollout: Rollout, _: Event) -> Outcome:
    return replace(rollout, state=State.STABLE, suspected=False, halved=False), (Effect.LIVE_TO_CANDIDATE, Effect.STABLE_TO_CANDIDATE)


def _promote_soaking(rollout: Rollout, _: Event) -> Outcome:
    return replace(rollout, state=State.STABLE, suspected=False, halved=False), (Effect.STABLE_TO_CANDIDATE,)


def _suspect(rollout: Rollout, _: Event) -> Outcome:
    return replace(rollout, suspected=True), ()


def _halve(rollout: Rollout, _: Event) -> Outcome:
    return replace(rollout, suspected=True, halved=True), ()


def _clear(rollout: Rollout, _: Event) -> Outcome:
    return replace(rollout, suspected=False, halved=False), ()


def _withdraw_unproven(rollout: Rollout, event: Event) -> Outcome:
    withdrawn = replace(rollout, state=State.WITHDRAWN, cause=event.cause)
    return withdrawn, (Effect.TOMBSTONE,) if event.tombstone else ()


def _withdraw_live(rollout: Rollout, event: Event) -> Outcome:
    if rollout.fallback is None:
        return rollout, (Effect.PAGE,)
    withdrawn = replace(rollout, state=State.WITHDRAWN, cause=event.cause)
    return withdrawn, (Effect.LIVE_TO_FALLBACK, *((Effect.TOMBSTONE,) if event.tombstone else ()))


TABLE: Mapping[tuple[State, EventKind], Callable[[Rollout, Event], Outcome]] = MappingProxyType(
    {
        (State.STAGED, EventKind.READY): _start,
        (State.STAGED, EventKind.NOT_READY): _refuse,
        (State.STAGED, EventKind.BAD): _withdraw_unproven,
        (State.SHADOW, EventKind.SHADOW_PASSED): _leave_shadow,
        (State.SHADOW, EventKind.PROMOTE): _promote_canary,
        (State.SHADOW, EventKind.BAD): _withdraw_unproven,
        (State.CANARY, EventKind.STEP_PASSED): _next_step,
        (State.CANARY, EventKind.PROMOTE): _promote_canary,
        (State.CANARY, EventKind.SUSPECTED): _suspect,
        (State.CANARY, EventKind.HALVED): _halve,
        (State.CANARY, EventKind.CLEARED): _clear,
        (State.CANARY, EventKind.BAD): _withdraw_unproven,
        (State.SOAKING, EventKind.SOAK_PASSED): _settle,
        (State.SOAKING, EventKind.PROMOTE): _promote_soaking,
        (State.SOAKING, EventKind.SUSPECTED): _suspect,
        (State.SOAKING, EventKind.HALVED): _halve,
        (State.SOAKING, EventKind.CLEARED): _clear,
        (State.SOAKING, EventKind.BAD): _withdraw_live,
        (State.STABLE, EventKind.BAD): _withdraw_live,
    }
)
