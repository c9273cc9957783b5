"""The course of a rollout: suspicion, half, clearing, passing; by counts alone."""

from dataclasses import replace

import pytest

from lastgood.monitoring.judge.trace import Mark
from lastgood.monitoring.judge.verdict import RoleCounts, StepCounts, judge
from lastgood.serving.rollout.course import PATIENCE, find_progress, find_suspicion
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import EventKind, Pin, Rollout, State

OLD, NEW = Pin(1, "sha256:" + "1" * 64), Pin(2, "sha256:" + "2" * 64)
CANARY = Rollout("r", "m", NEW, OLD, OLD, state=State.CANARY)
SUSPECT = replace(CANARY, suspected=True)


def marks(*candidates: tuple[int, int], baseline: int = 0) -> list[Mark]:
    """Marks of one step: requests and failures of the candidate, and good answers of the baseline at the end."""
    return [
        Mark(0, RoleCounts(all_, all_, failed=bad), RoleCounts(baseline * (i + 1), baseline * (i + 1)))
        for i, (all_, bad) in enumerate(candidates)
    ]


def suspicion(rollout: Rollout, found: list[Mark], *, forgiven: float = 0.0, share: float = 0.1) -> EventKind | None:
    steps = [StepCounts(share, found[-1].candidate, found[-1].baseline)]
    move = find_suspicion(rollout, judge(steps, rollout.policy.judge, has_baseline=True), found, forgiven=forgiven)
    return None if move is None else move.kind


SELDOM = marks((40, 1), (80, 2), (120, 3), (160, 4), baseline=300)
DEAD = marks((1, 1), (2, 2), (3, 3), baseline=9)


def test_seldom_bad_answers_halve_and_a_dead_version_is_only_suspected() -> None:
    """More traffic convicts the one sooner, and would cost the other more bad answers."""
    assert EventKind.HALVED == suspicion(CANARY, SELDOM)
    assert EventKind.SUSPECTED == suspicion(CANARY, DEAD)


def test_a_suspect_is_halved_once_and_suspected_once() -> None:
    """What is known already is no event; a suspect whose bad answers turn out to be rare is halved."""
    assert suspicion(SUSPECT, DEAD) is None
    assert EventKind.HALVED == suspicion(SUSPECT, SELDOM)
    assert suspicion(replace(SUSPECT, halved=True), SELDOM) is None


def test_what_was_forgiven_is_not_held_against_it_again() -> None:
    """Only evidence ten times beyond the cleared one suspects again."""
    assert suspicion(CANARY, SELDOM, forgiven=5.0) is None


def test_eight_bad_answers_in_a_row_suspect_before_the_evidence_does() -> None:
    """In a soak after many good answers the evidence is slow; half of the traffic makes it fast."""
    row = [Mark(0, RoleCounts(n, n, failed=n - 900), RoleCounts(100 + n // 905, 100 + n // 905)) for n in range(901, 911)]
    soaking = replace(CANARY, state=State.SOAKING)
    verdict = judge([StepCounts(0.9, row[-1].candidate, row[-1].baseline)], soaking.policy.judge, has_baseline=True)
    assert verdict.decision == "open"
    assert EventKind.SUSPECTED == suspicion(soaking, row, share=0.9)


@pytest.mark.parametrize(("state", "kind"), [(State.CANARY, EventKind.STEP_PASSED), (State.SOAKING, EventKind.SOAK_PASSED)])
def test_a_step_passes_by_the_candidates_requests_and_time(state: State, kind: EventKind) -> None:
    """Neither alone is enough, and the baseline's requests count nothing."""
    rollout = replace(CANARY, state=state, policy=RolloutPolicy(step_requests=10, step_seconds=5, soak_requests=10, soak_seconds=5))
    enough = [StepCounts(0.1, RoleCounts(10, 10), RoleCounts())]
    few = [StepCounts(0.1, RoleCounts(9, 9), RoleCounts(10**6, 10**6))]
    move = find_progress(rollout, enough, seconds=5)
    assert move is not None
    assert kind == move.kind
    assert find_progress(rollout, enough, seconds=4.9) is None
    assert find_progress(rollout, few, seconds=1e9) is None


def test_a_suspect_is_cleared_by_a_step_in_which_nothing_more_spoke_against_it() -> None:
    """One more bad answer holds it; if little more comes in ten steps, it goes on."""
    requests = SUSPECT.policy.step_requests
    clean = StepCounts(0.5, RoleCounts(requests, requests), RoleCounts(requests, requests))
    again = StepCounts(0.5, RoleCounts(requests, requests, failed=2), RoleCounts(requests, requests))
    move = find_progress(SUSPECT, [clean], seconds=1e9)
    assert move is not None
    assert EventKind.CLEARED == move.kind
    assert find_progress(SUSPECT, [again], seconds=1e9) is None
    later = StepCounts(
        0.5, RoleCounts(PATIENCE * requests, PATIENCE * requests, failed=2), RoleCounts(PATIENCE * requests, PATIENCE * requests)
    )
    assert find_progress(SUSPECT, [later], seconds=1e9) is not None


def test_early_success_is_off_by_default_and_never_helps_a_suspect() -> None:
    """With it, a candidate shown to be within the ratio passes its step at once; bad and suspected win over good."""
    shown = [StepCounts(0.5, RoleCounts(150, 150, failed=0), RoleCounts(10_000, 10_000, failed=200))]
    eager = replace(CANARY, policy=RolloutPolicy(early_success=True))
    assert find_progress(CANARY, shown, seconds=0) is None
    move = find_progress(eager, shown, seconds=0)
    assert move is not None
    assert EventKind.STEP_PASSED == move.kind
    assert find_progress(replace(eager, suspected=True), shown, seconds=0) is None
