"""E-values: what they promise, computed exactly where that can be done."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.monitoring.judge.evidence import candidate_part, log_hazard_evidence, log_rate_evidence, log_ratio_evidence

SHARES = st.floats(0.01, 0.99)
RATIOS = st.floats(1.0, 5.0)


@given(share=SHARES, tolerated=RATIOS, worse=st.floats(0.0, 1.0), events=st.integers(1, 40))
def test_ratio_evidence_averages_to_at_most_one_when_the_candidate_is_tolerable(
    share: float, tolerated: float, worse: float, events: int
) -> None:
    """Under any ratio up to the tolerated one, the mean e-value over all outcomes is 1 or less: that is the whole promise."""
    part = candidate_part(share, tolerated * worse)
    mean = math.fsum(
        math.comb(events, hits)
        * part**hits
        * (1 - part) ** (events - hits)
        * math.exp(log_ratio_evidence([(share, hits, events - hits)], tolerated))
        for hits in range(events + 1)
    )
    assert mean <= 1 + 1e-9


@given(tolerated=st.floats(0.005, 0.4), better=st.floats(0.0, 1.0), requests=st.integers(1, 60))
def test_rate_evidence_averages_to_at_most_one_when_the_version_is_tolerable(tolerated: float, better: float, requests: int) -> None:
    """The absolute test keeps the same promise for every bad ratio up to the tolerated one."""
    rate = tolerated * better
    mean = math.fsum(
        math.comb(requests, bad) * rate**bad * (1 - rate) ** (requests - bad) * math.exp(log_rate_evidence(bad, requests - bad, tolerated))
        for bad in range(requests + 1)
    )
    assert mean <= 1 + 1e-9


@given(seconds=st.floats(1, 10_000), tolerated=st.floats(1e-5, 1e-2), better=st.floats(0.01, 1.0))
def test_hazard_evidence_averages_to_at_most_one_when_deaths_are_tolerable(seconds: float, tolerated: float, better: float) -> None:
    """With Poisson deaths at up to the tolerated rate, the mean e-value is 1 or less."""
    expected = tolerated * better * seconds
    mean = math.fsum(
        math.exp(deaths * math.log(expected) - expected - math.lgamma(deaths + 1) + log_hazard_evidence(deaths, seconds, tolerated))
        for deaths in range(400)
    )
    assert mean <= 1 + 1e-6


@given(share=SHARES, tolerated=RATIOS, counts=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=5))
def test_splitting_a_step_changes_no_evidence(share: float, tolerated: float, counts: list[tuple[int, int]]) -> None:
    """The order of events and where a step is cut do not matter while the share is the same."""
    pieces = log_ratio_evidence([(share, candidate, baseline) for candidate, baseline in counts], tolerated)
    whole = log_ratio_evidence([(share, sum(c for c, _ in counts), sum(b for _, b in counts))], tolerated)
    assert whole == pytest.approx(pieces, abs=1e-6)


@given(share=SHARES, candidate=st.integers(0, 30), baseline=st.integers(0, 30))
def test_evidence_rises_with_the_candidates_events_and_falls_with_the_baselines(share: float, candidate: int, baseline: int) -> None:
    """A bad event on the candidate never speaks for it, one on the baseline never against."""
    here = log_ratio_evidence([(share, candidate, baseline)], 1.25)
    assert log_ratio_evidence([(share, candidate + 1, baseline)], 1.25) > here
    assert log_ratio_evidence([(share, candidate, baseline + 1)], 1.25) < here


def test_a_dead_candidate_at_ten_percent_is_convicted_by_four_events() -> None:
    """Four bad events at a share of 0.1 and none on the baseline reach half of alpha 0.001; three do not."""
    evidence = [log_ratio_evidence([(0.1, events, 0)], 1.25) for events in range(6)]
    threshold = math.log(1 / 0.0005)
    assert [value >= threshold for value in evidence] == [False, False, False, False, True, True]
    assert all(later > earlier for earlier, later in pairwise(evidence))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_step_that_only_one_role_could_get_an_event_in_says_nothing(share: float) -> None:
    """Without a concurrent other role there is nothing to compare."""
    assert pytest.approx(0.0) == log_ratio_evidence([(share, 50, 0)], 1.25)
