"""The rollout table, walked through completely."""

from collections import deque
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.errors import ConfigurationError
from lastgood.serving.rollout.policy import RolloutPolicy, read_policy
from lastgood.serving.rollout.table import Cause, Effect, Event, EventKind, Pin, Rollout, State, Strategy, advance, route_of

OLD, NEW = Pin(1, "sha256:" + "1" * 64), Pin(2, "sha256:" + "2" * 64)
CAUSES: tuple[Cause, ...] = ("judge", "alert", "person")
EVENTS = [Event(kind) for kind in EventKind if kind is not EventKind.BAD] + [
    Event(EventKind.BAD, cause, tombstone) for cause, tombstone in product(CAUSES, (True, False))
]


def start(*, strategy: Strategy = "canary", first: bool = False) -> Rollout:
    baseline = None if first else OLD
    return Rollout("r", "digits", NEW, baseline, baseline, strategy)


def reach(rollout: Rollout) -> set[Rollout]:
    """Every rollout that any sequence of events leads to."""
    seen = {rollout}
    queue = deque(seen)
    while queue:
        current = queue.popleft()
        for event in EVENTS:
            after, _ = advance(current, event)
            if after not in seen:
                seen.add(after)
                queue.append(after)
    return seen


@pytest.mark.parametrize("strategy", ["canary", "direct"])
@pytest.mark.parametrize("first", [True, False])
def test_every_reachable_state_has_a_route_and_a_withdrawn_candidate_gets_nothing(strategy: Strategy, first: bool) -> None:  # noqa: FBT001
    """Whatever happens in whatever order, nobody serves who was withdrawn, and shares stay within (0, 1)."""
    reached = reach(start(strategy=strategy, first=first))
    assert {rollout.state for rollout in reached} >= {State.STAGED, State.SOAKING, State.STABLE, State.WITHDRAWN}
    for rollout in reached:
        split = route_of(rollout)
        if rollout.state is State.WITHDRAWN:
            assert NEW not in {split.main, split.candidate}
        if split.candidate is not None:
            assert 0 < split.share < 1
        if not first:
            assert split.main is not None


def test_withdrawn_is_the_end() -> None:
    """No event brings a withdrawn rollout back."""
    withdrawn, _ = advance(start(), Event(EventKind.BAD, "judge"))
    assert [(withdrawn, ())] * len(EVENTS) == [advance(withdrawn, event) for event in EVENTS]


def test_a_first_version_that_is_bad_keeps_serving_and_somebody_is_told() -> None:
    """With nothing to go back to, taking the version out would leave nothing."""
    soaking, _ = advance(start(first=True), Event(EventKind.READY))
    assert (soaking, (Effect.PAGE,)) == advance(soaking, Event(EventKind.BAD, "judge"))


def test_the_good_path_moves_live_when_soaking_begins_and_stable_at_its_end() -> None:
    """staged, canary at each share, soaking, stable."""
    rollout = start()
    seen: list[tuple[State, float, tuple[Effect, ...]]] = []
    for kind in (EventKind.READY, EventKind.STEP_PASSED, EventKind.STEP_PASSED, EventKind.SOAK_PASSED):
        rollout, effects = advance(rollout, Event(kind))
        seen.append((rollout.state, route_of(rollout).share, effects))
    assert seen == [
        (State.CANARY, 0.1, ()),
        (State.CANARY, 0.5, ()),
        (State.SOAKING, 0.9, (Effect.LIVE_TO_CANDIDATE,)),
        (State.STABLE, 0.0, (Effect.STABLE_TO_CANDIDATE,)),
    ]


def test_a_suspect_gets_no_more_than_half_and_does_not_go_on() -> None:
    """Suspicion in the soak brings the baseline back to half; time and requests do not promote a suspect."""
    rollout = start(strategy="direct")
    for kind in (EventKind.READY, EventKind.SUSPECTED, EventKind.SOAK_PASSED):
        rollout, _ = advance(rollout, Event(kind))
    assert (rollout.state, route_of(rollout).share) == (State.SOAKING, 0.5)
    rollout, _ = advance(rollout, Event(EventKind.CLEARED))
    assert route_of(rollout).share == pytest.approx(0.9)


def test_a_suspect_that_fails_seldom_gets_half_also_from_below_until_it_is_cleared() -> None:
    """From a canary at 10 % the share rises to one half, from a soak at 90 % it falls to it; a cleared one is where it was."""
    rollout, _ = advance(start(), Event(EventKind.READY))
    halved, _ = advance(rollout, Event(EventKind.HALVED))
    assert (True, 0.5) == (halved.suspected, route_of(halved).share)
    assert (halved, ()) == advance(halved, Event(EventKind.STEP_PASSED))
    assert (rollout, ()) == advance(halved, Event(EventKind.CLEARED))
    suspected, _ = advance(rollout, Event(EventKind.SUSPECTED))
    assert route_of(suspected).share == pytest.approx(0.1)
    soaking = start(strategy="direct")
    for kind in (EventKind.READY, EventKind.HALVED):
        soaking, _ = advance(soaking, Event(kind))
    assert route_of(soaking).share == pytest.approx(0.5)


def test_only_a_suspect_is_halved() -> None:
    """No sequence of events leaves a share of one half behind that nobody is suspected for."""
    assert all(rollout.suspected for rollout in reach(start()) if rollout.halved)


@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_a_rollout_survives_being_written_and_read_at_any_point(events: list[Event]) -> None:
    """What is persisted is the whole rollout."""
    rollout = start()
    for event in events:
        rollout, _ = advance(rollout, event)
        assert rollout == Rollout.from_json(rollout.to_json())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"steps": [0.5, 0.1]}, "steps must rise"),
        ({"steps": [0.1, 0.95]}, "soak_share"),
        ({"alpha": 0}, "alpha = 0"),
        ({"step_requets": 5}, "step_requets"),
        ({"soak_requests": "many"}, "soak_requests = 'many'"),
    ],
)
def test_a_policy_that_cannot_be_right_is_refused_by_name(values: dict[str, object], named: str) -> None:
    """The message quotes the field and the value."""
    with pytest.raises(ConfigurationError, match=named):
        read_policy(values, source="lastgood.toml")


def test_the_default_policy_is_valid() -> None:
    """Nobody has to write one."""
    assert RolloutPolicy() == read_policy({}, source="nowhere")
