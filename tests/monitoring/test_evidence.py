"""E-values: what they promise, computed exactly where that can be done."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.monitoring.judge.evidence import (
    OUTCOME_BETS,
    RATIO_BETS,
    Contrast,
    candidate_part,
    log_contrast_evidence,
    log_hazard_evidence,
    log_outcome_evidence,
    log_rate_evidence,
    log_ratio_evidence,
    outcome_steps,
    step_stake,
)

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


def test_the_stakes_of_every_mixture_add_up_to_one() -> None:
    """Else it is no average of e-processes, and the promise is another one."""
    assert math.isclose(1, sum(RATIO_BETS.values()))
    assert math.isclose(1, sum(OUTCOME_BETS.values()))
    assert 1 - 1e-3 < sum(step_stake(number) for number in range(1000)) < 1


@given(
    part=SHARES,
    tolerated=st.floats(1.0, 60.0),
    common=st.floats(0.0, 1.0),
    worse=st.one_of(st.just(1.0), st.floats(0.0, 1.0)),
)
def test_outcome_evidence_averages_to_at_most_one_whatever_the_common_rate(
    part: float, tolerated: float, common: float, worse: float
) -> None:
    """For every tolerable pair of rates, the mean factor of one outcome is 1 or less, so it may change with every request."""
    candidate, baseline = min(1.0, tolerated * common) * worse, common
    chances = (part * candidate, (1 - part) * baseline, part * (1 - candidate), (1 - part) * (1 - baseline))
    for factors in outcome_steps(part, tolerated):
        assert sum(chance * math.exp(factor) for chance, factor in zip(chances, factors, strict=True)) <= 1 + 1e-9


def test_a_bet_that_is_itself_tolerated_says_nothing() -> None:
    """Where the candidate's batches are sixty times as large, all of them failing is no evidence."""
    assert math.isclose(0.0, log_outcome_evidence([Contrast(0.5, 50, 0, 0, 50, 0.5, 60.0)], 1.25), abs_tol=1e-9)


def test_good_answers_of_the_baseline_convict_a_dead_candidate_sooner() -> None:
    """Four bad answers at a share of 0.1 are enough beside 32 good ones of the baseline, and not by themselves."""
    threshold = math.log(1 / 0.0005)
    assert log_contrast_evidence([Contrast(0.1, 4, 0, 0, 32, 0.1)], 1.25) >= threshold
    assert log_contrast_evidence([Contrast(0.1, 4, 0, 0, 0, 0.1)], 1.25) < threshold
    assert log_ratio_evidence([(0.1, 4, 0)], 1.25) < threshold


def test_good_answers_in_earlier_steps_do_not_shield_a_version_that_goes_bad() -> None:
    """The same dead stretch of twenty requests at one half convicts after a thousand good answers."""
    good, dead = Contrast(0.9, 0, 0, 900, 100, 0.9), Contrast(0.5, 14, 0, 0, 14, 0.5)
    assert log_contrast_evidence([good, dead], 1.25) >= math.log(1 / 0.0005)
    as_one_step = Contrast(0.5, 14, 0, 900, 114, 0.5)
    assert log_contrast_evidence([as_one_step], 1.25) < math.log(1 / 0.0005)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_step_that_only_one_role_could_get_an_event_in_says_nothing(share: float) -> None:
    """Without a concurrent other role there is nothing to compare."""
    assert pytest.approx(0.0) == log_ratio_evidence([(share, 50, 0)], 1.25)
