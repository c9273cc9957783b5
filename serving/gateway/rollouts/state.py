"""
One model's part of the route table, as a pure value, and every way it can change.

The shared record persists it under a generation; the gateway keeps the same value in memory. Nothing here does I/O.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import (
    RUNNING,
    Cause,
    Effect,
    Event,
    EventKind,
    Pin,
    Rollout,
    Split,
    State,
    advance,
    route_of,
)

_PROVEN_KEPT = 20
AUTOMATIC: frozenset[Cause] = frozenset({"judge", "alert"})


@dataclass(frozen=True, slots=True)
class ModelState:
    """Who serves a model, since when, what came before, and the rollout that is under way."""

    model: str
    live: Pin | None = None
    stable: Pin | None = None
    proven: tuple[Pin, ...] = ()  # versions that became stable, newest first
    rollout: Rollout | None = None
    episodes: Mapping[str, str] = field(default_factory=dict)  # digest in the route → ISO time it came in
    withdrawals: tuple[str, ...] = ()  # ISO times of automatic ones, newest last
    frozen: str | None = None  # why
    compared: Mapping[str, str] = field(default_factory=dict)  # digest in the route → ISO time up to which alerts were compared

    def to_json(self) -> dict[str, Any]:
        """Give the form that is persisted."""
        body = {name: getattr(self, name) for name in ("model", "episodes", "withdrawals", "frozen", "compared")}
        pins = {name: asdict(pin) if (pin := getattr(self, name)) else None for name in ("live", "stable")}
        rollout = self.rollout.to_json() if self.rollout else None
        return {**body, **pins, "proven": [asdict(pin) for pin in self.proven], "rollout": rollout}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ModelState":
        """Read what `to_json` wrote."""
        return cls(
            model=value["model"],
            live=Pin(**value["live"]) if value["live"] else None,
            stable=Pin(**value["stable"]) if value["stable"] else None,
            proven=tuple(Pin(**pin) for pin in value["proven"]),
            rollout=Rollout.from_json(value["rollout"]) if value["rollout"] else None,
            episodes=dict(value["episodes"]),
            withdrawals=tuple(value["withdrawals"]),
            frozen=value["frozen"],
            compared=dict(value.get("compared", {})),  # states stored before there were comparisons have none
        )

    @property
    def running(self) -> Rollout | None:
        """The rollout, if it has not ended."""
        return self.rollout if self.rollout and self.rollout.state in RUNNING else None

    @property
    def split(self) -> Split:
        """Who gets what now."""
        return route_of(self.running) if self.running else Split(self.live, None, 0.0)

    def serves(self, digest: str) -> bool:
        """Say whether a version answers, or gets copies."""
        split = self.split
        return digest in {pin.digest for pin in (split.main, split.candidate, split.shadow) if pin is not None}

    @property
    def warm(self) -> frozenset[Pin]:
        """Versions whose replicas must run: those that serve, the fallback, and a candidate that gets ready."""
        split = self.split
        pins = {split.main, split.candidate, self.live}
        if self.rollout and self.rollout.state is not State.WITHDRAWN:
            pins |= {self.rollout.candidate, self.rollout.fallback}
        return frozenset(pin for pin in pins if pin is not None)


@dataclass(frozen=True, slots=True)
class Change:
    """A new state and what the shared record must say about it."""

    state: ModelState
    live: Pin | None = None  # the alias moves here
    stable: Pin | None = None
    tombstone: Pin | None = None
    page: str | None = None  # why a person is needed
    froze: bool = False


def submit(state: ModelState, rollout: Rollout, now: datetime) -> Change:
    """Give the state with a new rollout, which must not have begun."""
    return Change(_with_episodes(replace(state, rollout=rollout), now))


def step(state: ModelState, kind: EventKind, now: datetime) -> Change:
    """Give the state after an event of the running rollout; nothing changes where none is running."""
    if state.running is None:
        return Change(state)
    rollout, effects = advance(state.running, Event(kind))
    changed = replace(state, rollout=rollout)
    live = rollout.candidate if Effect.LIVE_TO_CANDIDATE in effects else None
    stable = rollout.candidate if Effect.STABLE_TO_CANDIDATE in effects else None
    if live:
        changed = replace(changed, live=live)
    if stable:
        changed = replace(changed, stable=stable, proven=_prove(changed.proven, stable))
    return Change(_with_episodes(changed, now), live=live, stable=stable)


@dataclass(frozen=True, slots=True)
class Comparing:
    """A comparison that is to begin: its rollout's id, the coin's seed, and what must not be the baseline."""

    id: str
    seed: int
    now: datetime
    began: datetime | None = None  # when the alert says that it began, by another clock
    excluded: Collection[str] = ()  # digests that are vetoed, or do not come up here


def compare(state: ModelState, comparing: Comparing) -> Change:
    """
    Give the state in which the live version soaks again, suspected, beside the newest other version that proved itself.

    Half of the requests are the baseline's then, and the judge decides as in any rollout. Nothing changes where a rollout
    runs or nothing is live; where no other version is proven, a page says so.
    """
    if state.running is not None or state.live is None:
        return Change(state)
    out = {*comparing.excluded, state.live.digest}
    baseline = next((pin for pin in state.proven if pin.digest not in out), None)
    if baseline is None:
        return Change(state, page=f"{state.model}@{state.live.number} is suspected, and there is no proven version to compare it with.")
    rollout = Rollout(
        id=comparing.id,
        model=state.model,
        candidate=state.live,
        baseline=baseline,
        fallback=baseline,
        policy=state.rollout.policy if state.rollout else RolloutPolicy(),
        seed=comparing.seed,
        state=State.SOAKING,
        suspected=True,
        comparison=True,
    )
    # By a clock that is ahead the same alert begins after its own comparison did.
    since = max(comparing.now, comparing.began or comparing.now)
    compared = {**state.compared, state.live.digest: since.isoformat()}
    return Change(_with_episodes(replace(state, rollout=rollout, compared=compared), comparing.now))


def end_comparison(state: ModelState, now: datetime) -> Change:
    """Give the state without the comparison that runs: no verdict, and what is live stays as it was before the alert."""
    return step(state, EventKind.PROMOTE, now) if state.running is not None and state.running.comparison else Change(state)


def find_local_split(state: ModelState, vetoed: Collection[str]) -> Split:
    """
    Say who gets what at a gateway that has been cut off from the shared record while a rollout runs.

    Others may have withdrawn the candidate since: everything goes to the fallback, or to what is proven, until the record is
    reached again. Where there is neither, what serves goes on.
    """
    running = state.running
    if running is None or running.state is State.STAGED:
        return state.split
    choices = (running.fallback, running.baseline, *state.proven)
    back = next((pin for pin in choices if pin is not None and pin.digest not in vetoed and pin != running.candidate), None)
    return state.split if back is None else Split(back, None, 0.0)


def prove_live(state: ModelState) -> Change:
    """Let the live version be stable without a rollout: a person vouches for it. Nothing changes where it is, or there is none."""
    if state.live is None or state.live == state.stable:
        return Change(state)
    return Change(replace(state, stable=state.live, proven=_prove(state.proven, state.live)), stable=state.live)


@dataclass(frozen=True, slots=True)
class Taking:
    """One version to be taken out of the route."""

    digest: str
    cause: Cause
    now: datetime
    tombstone: bool = True  # whether it may never serve again
    vetoed: Collection[str] = ()  # digests that must not be gone back to
    target: Pin | None = None  # the version a person wants back; otherwise the fallback, or the newest proven version
    since: str | None = None  # ISO time at which the version had come in; one that came in later is not meant


def withdraw(state: ModelState, taking: Taking) -> Change:
    """
    Take a version out of the route, and say what serves instead.

    A version that serves in no role changes nothing, nor does one that has come in anew since it was decided about. Where
    there is nothing to go back to, it stays and a page says so.
    """
    digest, cause, tombstone = taking.digest, taking.cause, taking.tombstone
    guarded = _guarded(state, digest)
    if guarded is None or _came_in_anew(state, taking):
        return Change(state)
    if state.running and guarded is not state.running:
        return _replace_baseline(state, guarded.candidate, taking)
    guarded = replace(guarded, fallback=_back_to(state, guarded, taking))
    rollout, effects = advance(guarded, Event(EventKind.BAD, cause, tombstone))
    if Effect.PAGE in effects:
        return Change(state, page=f"{state.model}@{guarded.candidate.number} is bad ({cause}) and there is no version to go back to.")
    live = rollout.fallback if Effect.LIVE_TO_FALLBACK in effects else None
    changed = replace(state, rollout=rollout, live=live or state.live)
    if taking.target and not live:
        # A person takes a canary out and names another version than the one that serves beside it.
        changed, live = replace(changed, live=taking.target), taking.target
    return _finish(changed, guarded.candidate, taking, live)


def _came_in_anew(state: ModelState, taking: Taking) -> bool:
    now = state.episodes.get(taking.digest)
    return now is not None and taking.since is not None and datetime.fromisoformat(now) > datetime.fromisoformat(taking.since)


def _guarded(state: ModelState, digest: str) -> Rollout | None:
    rollout = state.rollout
    if rollout and rollout.candidate.digest == digest and rollout.state is not State.WITHDRAWN:
        return rollout
    live = state.live if state.live and state.live.digest == digest else None
    baseline = state.running.baseline if state.running else None
    pin = live or (baseline if baseline and baseline.digest == digest else None)
    # A version that serves and is no rollout's candidate is guarded all the same: as one that is stable.
    return None if pin is None else Rollout(id="", model=state.model, candidate=pin, baseline=None, fallback=None, state=State.STABLE)


def _back_to(state: ModelState, rollout: Rollout, taking: Taking) -> Pin | None:
    out = {*taking.vetoed, rollout.candidate.digest}
    choices = (taking.target, rollout.fallback, *state.proven)
    return next((pin for pin in choices if pin is not None and pin.digest not in out), None)


def _replace_baseline(state: ModelState, bad: Pin, taking: Taking) -> Change:
    rollout = state.running
    assert rollout is not None  # noqa: S101 - the caller checked
    out = {*taking.vetoed, bad.digest, rollout.candidate.digest}
    back = next((pin for pin in (taking.target, *state.proven) if pin is not None and pin.digest not in out), None)
    serves_alone = rollout.state is State.SOAKING  # the candidate is live already and can carry everything
    if back is None and not serves_alone and rollout.candidate in state.proven and rollout.candidate.digest not in taking.vetoed:
        # What is being rolled out again has proved itself before: it is what there is to go back to, and its rollout is over.
        ended = replace(rollout, state=State.STABLE, baseline=None, fallback=None, suspected=False)
        return _finish(replace(state, rollout=ended, live=rollout.candidate), bad, taking, rollout.candidate)
    if back is None and not serves_alone:
        return Change(state, page=f"{state.model}@{bad.number} is bad ({taking.cause}) and there is no proven version to go back to.")
    live = back if state.live == bad else None
    changed = replace(state, rollout=replace(rollout, baseline=back, fallback=back), live=live or state.live)
    return _finish(changed, bad, taking, live)


def _finish(state: ModelState, bad: Pin, taking: Taking, live: Pin | None) -> Change:
    proven = tuple(pin for pin in state.proven if pin.digest != bad.digest) if taking.tombstone else state.proven
    stable = None
    if state.stable == bad and live is not None:
        stable = live
        state = replace(state, stable=live)
    state = replace(state, proven=proven)
    page, froze = None, False
    if taking.cause in AUTOMATIC:
        state, froze = _count_withdrawal(state, taking.now)
        page = state.frozen if froze else None
    tombstone = bad if taking.tombstone else None
    return Change(_with_episodes(state, taking.now), live=live, stable=stable, tombstone=tombstone, page=page, froze=froze)


def _count_withdrawal(state: ModelState, now: datetime) -> tuple[ModelState, bool]:
    policy = state.rollout.policy if state.rollout else RolloutPolicy()
    since = now - timedelta(seconds=policy.freeze_window_seconds)
    recent = (*(time for time in state.withdrawals if datetime.fromisoformat(time) > since), now.isoformat())
    froze = state.frozen is None and len(recent) >= policy.freeze_after
    why = f"{len(recent)} automatic withdrawals within {policy.freeze_window_seconds:.0f} s" if froze else state.frozen
    return replace(state, withdrawals=recent, frozen=why), froze


def _prove(proven: tuple[Pin, ...], pin: Pin) -> tuple[Pin, ...]:
    return (pin, *(other for other in proven if other != pin))[:_PROVEN_KEPT]


def _with_episodes(state: ModelState, now: datetime) -> ModelState:
    split = state.split
    serving = {pin.digest for pin in (split.main, split.candidate) if pin is not None}
    return replace(
        state,
        episodes={digest: state.episodes.get(digest, now.isoformat()) for digest in sorted(serving)},
        # Of a version that comes back later, alerts that are older than its new episode are stale anyway.
        compared={digest: time for digest, time in state.compared.items() if digest in serving},
    )
