"""
The course of a rollout: what its counts and verdict ask for next.

Pure: the gateway's watch asks after everything bad and a few times a second, a simulation asks the same functions.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from lastgood.monitoring.judge.paired import Pairs
from lastgood.monitoring.judge.success import log_success_evidence, success_threshold
from lastgood.monitoring.judge.trace import Mark, comes_slowly, fails_always
from lastgood.monitoring.judge.verdict import NO_PAIRS, SUSPICION, StepCounts, Verdict, judge
from lastgood.serving.rollout.table import EventKind, Rollout, State

PATIENCE: Final = 10  # times the requests of a step, after which a suspect that gave little further cause goes on


class Move(NamedTuple):
    """An event for the rollout table, and why."""

    kind: EventKind
    why: str


def find_suspicion(rollout: Rollout, verdict: Verdict, marks: Sequence[Mark], *, forgiven: float = 0.0) -> Move | None:
    """
    Say whether the rollout is to be suspected, or given half.

    Args:
        rollout: In shadow, in the canary or soaking. In shadow there is no share that could be changed.
        verdict: Of all its counts, not "bad".
        marks: Its trace.
        forgiven: The evidence, ln e, that it had when it was last cleared.
    """
    if rollout.state is State.SHADOW:
        return None
    if verdict.strongest - forgiven <= SUSPICION:
        if rollout.suspected or rollout.baseline is None or not fails_always(marks):
            return None
        return Move(EventKind.SUSPECTED, "nothing but bad answers lately")
    # Labels come at a pace of their own, for a version that answers: half of the requests are half of the labels.
    if not rollout.halved and rollout.baseline is not None and (verdict.kind == "wrong" or comes_slowly(marks)):
        return Move(EventKind.HALVED, f"{verdict.kind} events, now and then: half of the requests decide sooner")
    return None if rollout.suspected else Move(EventKind.SUSPECTED, f"{verdict.kind} events")


def find_progress(rollout: Rollout, steps: Sequence[StepCounts], *, seconds: float, pairs: Pairs = NO_PAIRS) -> Move | None:
    """
    Say whether the present step is passed, or a suspect is cleared.

    Args:
        rollout: In shadow, in the canary or soaking.
        steps: Its counts; the last one is the present step.
        seconds: How long the present step has lasted.
        pairs: What both versions answered while the candidate was a shadow.
    """
    requests, least_seconds = needed(rollout)
    enough = steps[-1].candidate.requests >= requests and seconds >= least_seconds
    if rollout.suspected:
        return _clear(rollout, steps, requests) if enough else None
    if rollout.state is State.SHADOW:
        asked = rollout.policy
        if not enough or pairs.compared < asked.shadow_requests or pairs.labels.pairs < asked.shadow_labels:
            return None
        return Move(EventKind.SHADOW_PASSED, f"{pairs.compared} requests answered by both, {pairs.labels.pairs} of them labelled")
    kind = EventKind.SOAK_PASSED if rollout.state is State.SOAKING else EventKind.STEP_PASSED
    if enough:
        return Move(kind, f"{requests} requests and {least_seconds:g} s passed")
    if rollout.policy.early_success and rollout.baseline is not None:
        policy = rollout.policy.judge
        if log_success_evidence(steps, policy) >= success_threshold(policy):
            return Move(kind, f"shown to be within {policy.tolerated_ratio:g} times the baseline's bad events")
    return None


def needed(rollout: Rollout) -> tuple[int, float]:
    """Give the candidate's requests and the seconds after which the rollout's present step is passed."""
    policy = rollout.policy
    if rollout.state is State.SHADOW:
        return policy.shadow_requests, policy.shadow_seconds
    if rollout.state is State.SOAKING and not rollout.suspected:
        return policy.soak_requests, policy.soak_seconds
    return policy.step_requests, policy.step_seconds


def _clear(rollout: Rollout, steps: Sequence[StepCounts], requests: int) -> Move | None:
    """Let a suspect go on that gave no further cause in a whole step; what it gave before still counts against it."""
    since = judge(steps[-1:], rollout.policy.judge, has_baseline=rollout.baseline is not None)
    if since.strongest <= 0:
        return Move(EventKind.CLEARED, "nothing more in a whole step")
    if since.decision == "open" and steps[-1].candidate.requests >= PATIENCE * requests:
        return Move(EventKind.CLEARED, f"little more in {PATIENCE} steps")
    return None
