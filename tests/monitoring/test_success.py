"""The test of success: its promise, and that it learns from bad events alone."""

import math

from hypothesis import given
from hypothesis import strategies as st

from lastgood.monitoring.judge.evidence import candidate_part
from lastgood.monitoring.judge.success import log_success_evidence, success_threshold
from lastgood.monitoring.judge.verdict import JudgePolicy, RoleCounts, StepCounts

POLICY = JudgePolicy()


def step(share: float, candidate: int, baseline: int, requests: int = 10_000) -> StepCounts:
    return StepCounts(share, RoleCounts(requests, requests, failed=candidate), RoleCounts(requests, requests, failed=baseline))


@given(share=st.floats(0.02, 0.98), worse=st.floats(1.0, 20.0), events=st.integers(1, 40))
def test_success_evidence_averages_to_at_most_one_for_a_candidate_that_is_worse_than_tolerated(
    share: float, worse: float, events: int
) -> None:
    """At the tolerated ratio and beyond, the mean over all outcomes is 1 or less."""
    part = candidate_part(share, POLICY.tolerated_ratio * worse)
    mean = math.fsum(
        math.comb(events, hits)
        * part**hits
        * (1 - part) ** (events - hits)
        * math.exp(log_success_evidence([step(share, hits, events - hits)], POLICY))
        for hits in range(events + 1)
    )
    assert mean <= 1 + 1e-9


def test_silence_shows_nothing() -> None:
    """Any number of good answers without a bad one is no evidence."""
    assert math.isclose(0.0, log_success_evidence([step(0.5, 0, 0, 10**7)], POLICY), abs_tol=1e-9)


def test_an_equal_number_of_many_bad_events_at_one_half_shows_that_the_candidate_is_within_the_ratio() -> None:
    """600 bad events, evenly split, are enough; a hundred are not; 1.25 times as many on the candidate never are."""
    threshold = success_threshold(POLICY)
    assert log_success_evidence([step(0.5, 300, 300)], POLICY) >= threshold
    assert log_success_evidence([step(0.5, 50, 50)], POLICY) < threshold
    assert log_success_evidence([step(0.5, 5_000, 4_000)], POLICY) < threshold
