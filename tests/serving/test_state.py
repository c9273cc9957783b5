"""A model's state: what withdrawals, repetitions and missing fallbacks do to it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.serving.gateway.rollouts.alerts import Alert, rule
from lastgood.serving.gateway.rollouts.state import Change, Comparing, ModelState, Taking, compare, step, submit, withdraw
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import Cause, EventKind, Pin, Rollout, State

NOW = datetime(2026, 5, 1, tzinfo=UTC)
PINS = [Pin(number, f"sha256:{number:064x}") for number in range(5)]
ONE, TWO, THREE = PINS[1:4]
GOOD_PATH = (EventKind.READY, EventKind.STEP_PASSED, EventKind.STEP_PASSED, EventKind.SOAK_PASSED)


def release(state: ModelState, pin: Pin, events: tuple[EventKind, ...] = GOOD_PATH) -> ModelState:
    """Submit a version and let these events happen."""
    rollout = Rollout(f"r{pin.number}", "m", pin, state.live, state.live, policy=RolloutPolicy())
    state = submit(state, rollout, NOW).state
    for kind in events:
        state = step(state, kind, NOW).state
    return state


def take(
    state: ModelState, pin: Pin, *, cause: Cause = "judge", vetoed: tuple[str, ...] = (), now: datetime = NOW, target: Pin | None = None
) -> Change:
    return withdraw(state, Taking(pin.digest, cause, now, vetoed=vetoed, target=target))


STABLE_ONE = release(ModelState("m"), ONE, (EventKind.READY, EventKind.SOAK_PASSED))
STABLE_TWO = release(STABLE_ONE, TWO)


def test_a_stable_version_has_its_predecessor_kept_warm() -> None:
    """The fallback runs beside it."""
    assert (STABLE_TWO.live, STABLE_TWO.stable) == (TWO, TWO)
    assert frozenset({ONE, TWO}) == STABLE_TWO.warm


def test_a_stable_version_that_goes_bad_gives_way_to_its_predecessor() -> None:
    """Live and stable both move, and the tombstone names the bad one."""
    change = take(STABLE_TWO, TWO, cause="alert")
    assert (change.live, change.stable, change.tombstone) == (ONE, ONE, TWO)
    assert change.state.split.main == ONE


def test_the_same_withdrawal_twice_changes_nothing_the_second_time() -> None:
    """An alert is a level; its repetition is no second order."""
    once = take(STABLE_TWO, TWO, cause="alert").state
    again = take(once, TWO, cause="alert")
    assert again == Change(once)


def test_a_comparison_gives_half_to_the_newest_other_proven_version_and_is_judged_like_a_rollout() -> None:
    """It ends stable as it began, or with the fallback."""
    change = compare(STABLE_TWO, Comparing("c", 1, NOW))
    split, rollout = change.state.split, change.state.running
    assert (ONE, TWO, 0.5) == (split.main, split.candidate, split.share)
    assert (change.live, change.stable, rollout and rollout.fallback) == (None, None, ONE)
    assert {TWO.digest: NOW.isoformat()} == change.state.compared
    good = change.state
    assert good.running == step(good, EventKind.SOAK_PASSED, NOW).state.running  # a suspect does not end
    for kind in (EventKind.CLEARED, EventKind.SOAK_PASSED):
        good = step(good, kind, NOW).state
    assert (TWO, TWO, (TWO, ONE), None) == (good.live, good.stable, good.proven, good.running)
    bad = take(change.state, TWO)
    assert (bad.live, bad.stable, bad.tombstone, bad.state.split.main) == (ONE, ONE, TWO, ONE)


def test_what_cannot_be_compared_stays_as_it_is() -> None:
    """While a rollout runs, where nothing is live, and where no other version may serve: of that a page tells."""
    canary = release(STABLE_ONE, TWO, (EventKind.READY,))
    assert Change(canary) == compare(canary, Comparing("c", 1, NOW))
    assert Change(ModelState("m")) == compare(ModelState("m"), Comparing("c", 1, NOW))
    for state, excluded in ((STABLE_ONE, ()), (STABLE_TWO, (ONE.digest,))):
        change = compare(state, Comparing("c", 1, NOW, excluded=excluded))
        assert change.state is state
        assert "no proven version to compare it with" in (change.page or "")


def test_an_alert_by_a_clock_that_is_ahead_is_compared_once() -> None:
    """What repeats it begins no later than what it was compared for."""
    began = NOW + timedelta(minutes=10)
    compared = compare(STABLE_TWO, Comparing("c", 1, NOW, began)).state
    assert {TWO.digest: began.isoformat()} == compared.compared
    ended = step(compared, EventKind.PROMOTE, NOW).state
    ruling = rule(Alert("A", True, "m", 2, "compare", began, "", ""), {"m": ended})
    assert ("ignored", True) == (ruling.result, "has been compared" in ruling.reason)


def test_a_state_stored_before_there_were_comparisons_is_read() -> None:
    """Without the field, in the state and in its rollout; with it, it comes back."""
    compared = compare(STABLE_TWO, Comparing("c", 1, NOW)).state
    assert compared == ModelState.from_json(compared.to_json())
    old = STABLE_TWO.to_json()
    del old["compared"]
    del old["rollout"]["comparison"]
    assert STABLE_TWO == ModelState.from_json(old)


def test_the_only_version_stays_and_somebody_is_told() -> None:
    """There is nothing to go back to."""
    change = take(STABLE_ONE, ONE)
    assert STABLE_ONE is change.state
    assert change.page is not None


def test_a_fallback_that_was_tombstoned_meanwhile_is_passed_over() -> None:
    """The newest proven version that may serve comes back."""
    stable_three = release(STABLE_TWO, THREE)
    assert take(stable_three, THREE, vetoed=(TWO.digest,)).live == ONE
    assert take(stable_three, THREE, vetoed=(TWO.digest, ONE.digest)).page is not None


def test_a_canary_that_goes_bad_leaves_live_alone() -> None:
    """The baseline gets everything; no alias moves."""
    canary = release(STABLE_ONE, TWO, (EventKind.READY,))
    change = take(canary, TWO)
    assert (change.live, change.state.split.main) == (None, ONE)
    assert (change.state.rollout and change.state.rollout.state) == State.WITHDRAWN


def test_a_baseline_that_goes_bad_is_replaced_under_the_canary() -> None:
    """The canary goes on against the newest proven version."""
    canary = release(STABLE_TWO, THREE, (EventKind.READY,))
    change = take(canary, TWO, cause="alert")
    assert (change.state.split.main, change.state.split.candidate) == (ONE, THREE)
    assert change.live == ONE


def test_repeated_automatic_withdrawals_freeze_the_model_and_later_ones_do_not_count_together() -> None:
    """Three within an hour freeze; three within three hours do not."""
    quick = slow = STABLE_ONE
    for index in range(3):
        quick = take(release(quick, TWO, (EventKind.READY,)), TWO, now=NOW + timedelta(minutes=index)).state
        slow = take(release(slow, TWO, (EventKind.READY,)), TWO, now=NOW + timedelta(hours=index)).state
    assert quick.frozen is not None
    assert slow.frozen is None


def test_a_person_may_name_the_version_to_go_back_to() -> None:
    """It wins over the fallback."""
    stable_three = release(STABLE_TWO, THREE)
    assert take(stable_three, THREE, cause="person", target=ONE).live == ONE


def test_a_serving_episode_begins_when_a_version_comes_into_the_route() -> None:
    """What stays keeps its time; what comes back begins anew."""
    later = NOW + timedelta(hours=1)
    change = take(STABLE_TWO, TWO, now=later)
    assert {ONE.digest: later.isoformat()} == change.state.episodes


KINDS = st.sampled_from(list(EventKind))
ACTIONS = st.one_of(
    st.tuples(st.just("release"), st.sampled_from(PINS)),
    st.tuples(st.just("step"), KINDS),
    st.tuples(st.just("take"), st.sampled_from(PINS), st.booleans()),
)


@given(st.lists(ACTIONS, max_size=30))
def test_no_sequence_lets_a_tombstone_serve_or_leaves_nothing_where_something_served(actions: list[tuple[object, ...]]) -> None:
    """After any releases, events and withdrawals: no vetoed digest in the route, live serves, and JSON keeps it all."""
    state, vetoed = STABLE_ONE, set[str]()
    for action in actions:
        match action:
            case ("release", Pin() as pin) if state.running is None and pin.digest not in vetoed and state.live != pin:
                state = release(state, pin, ())
            case ("step", EventKind() as kind) if kind is not EventKind.BAD:
                state = step(state, kind, NOW).state
            case ("take", Pin() as pin, bool() as tombstone):
                change = withdraw(state, Taking(pin.digest, "judge", NOW, tombstone=tombstone, vetoed=frozenset(vetoed)))
                state = change.state
                if change.tombstone is not None:
                    vetoed.add(change.tombstone.digest)
        split = state.split
        serving = {pin.digest for pin in (split.main, split.candidate) if pin is not None}
        assert not serving & vetoed
        assert split.main is not None
        assert serving == set(state.episodes)
        assert state.live is not None
        assert state.live.digest in serving
        assert state == ModelState.from_json(state.to_json())


@pytest.mark.parametrize("kind", list(EventKind))
def test_an_event_without_a_running_rollout_changes_nothing(kind: EventKind) -> None:
    """Late news of a rollout that has ended."""
    assert Change(STABLE_TWO) == step(STABLE_TWO, kind, NOW)
