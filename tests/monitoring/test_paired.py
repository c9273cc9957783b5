"""The judge in shadow: its promise for pairs, and how soon it finds a loss."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lastgood.monitoring.judge.paired import PairCounts, Pairs, log_disagreement_evidence, log_label_evidence
from lastgood.monitoring.judge.verdict import JudgePolicy, Verdict, judge


@given(accepted=st.floats(0.0, 0.3), won=st.floats(0.0, 0.3), spare=st.floats(0.0, 1.0), pairs=st.integers(1, 12))
def test_label_evidence_averages_to_at_most_one_while_the_loss_is_accepted(accepted: float, won: float, spare: float, pairs: int) -> None:
    """For every loss up to the accepted one, and however many pairs are won, the mean over all outcomes is 1 or less."""
    lost = (won + accepted) * spare
    tied = 1 - lost - won
    mean = math.fsum(
        math.comb(pairs, losses)
        * math.comb(pairs - losses, wins)
        * lost**losses
        * won**wins
        * tied ** (pairs - losses - wins)
        * math.exp(log_label_evidence(PairCounts(losses, wins, pairs - losses - wins), accepted))
        for losses in range(pairs + 1)
        for wins in range(pairs - losses + 1)
    )
    assert mean <= 1 + 1e-9


@given(accepted=st.floats(0.005, 0.5), less=st.floats(0.0, 1.0), pairs=st.integers(1, 60))
def test_disagreement_evidence_averages_to_at_most_one_while_it_is_accepted(accepted: float, less: float, pairs: int) -> None:
    """For every ratio of disagreement up to the accepted one, the mean over all outcomes is 1 or less."""
    rate = accepted * less
    mean = math.fsum(
        math.comb(pairs, hits)
        * rate**hits
        * (1 - rate) ** (pairs - hits)
        * math.exp(log_disagreement_evidence(hits, pairs - hits, accepted))
        for hits in range(pairs + 1)
    )
    assert mean <= 1 + 1e-9


def judge_pairs(pairs: Pairs, *, accepted: float | None = None) -> Verdict:
    return judge([], JudgePolicy(tolerated_loss=0.005, accepted_disagreement=accepted), has_baseline=True, pairs=pairs)


def test_what_the_gate_accepted_is_no_cause() -> None:
    """Half a point lost in 10,000 pairs, half a point accepted: nothing; the same against nothing accepted convicts."""
    counts = PairCounts(lost=150, won=100, tied=9_750)
    assert "open" == judge_pairs(Pairs(labels=counts)).decision
    assert log_label_evidence(counts, 0.0) > log_label_evidence(counts, 0.005)


def test_a_loss_of_ten_points_is_found_within_400_labelled_pairs_and_five_within_1100() -> None:
    """At the 95th percentile of 300 runs, where a pair in a hundred is won and half a point was accepted."""
    random = np.random.default_rng(3)
    for points, most in ((0.10, 400), (0.05, 1100)):
        found = 0
        for _ in range(300):
            lost, won, tied = np.cumsum(random.multinomial(1, [points + 0.01, 0.01, 0.98 - points], size=most), axis=0).T
            found += any(
                judge_pairs(Pairs(labels=PairCounts(int(a), int(b), int(c)))).decision == "bad"
                for a, b, c in zip(lost[99::5], won[99::5], tied[99::5], strict=True)
            )
        assert found >= 280  # 285 expected at least


def test_disagreement_beyond_the_accepted_convicts() -> None:
    """Four in a hundred accepted, twelve seen."""
    verdict = judge_pairs(Pairs(440, 60), accepted=0.04)
    assert ("bad", "shadow") == (verdict.decision, verdict.kind)
    assert "open" == judge_pairs(Pairs(480, 20), accepted=0.04).decision
    assert "open" == judge_pairs(Pairs(440, 60), accepted=None).decision  # not measured, so not judged
