"""A rollout's counts on disk."""

from pathlib import Path

from lastgood.monitoring.judge.verdict import JudgePolicy
from lastgood.serving.gateway.rollouts.counts import RolloutCounts


def test_counts_and_their_trace_survive_the_gateway(tmp_path: Path) -> None:
    """What was marked is there again, and another rollout's file counts nothing."""
    counts = RolloutCounts("r")
    step = counts.step(0.1, "canary/0")
    for _ in range(3):
        step.candidate.tally.requests += 1
        step.candidate.tally.batches += 1
        step.candidate.tally.failed += 1
        counts.verdict(JudgePolicy(), has_baseline=True, unsettled=2)
    counts.save(tmp_path / "m.json")
    again = RolloutCounts.load(tmp_path / "m.json", "r")
    assert 3 == len(counts.marks)
    assert (counts.marks, counts.freeze()) == (again.marks, again.freeze())
    assert [] == RolloutCounts.load(tmp_path / "m.json", "another").steps


def test_the_baselines_batches_in_flight_belong_to_the_last_step() -> None:
    """Earlier steps are settled but for stragglers."""
    counts = RolloutCounts("r")
    counts.step(0.1, "canary/0")
    counts.step(0.5, "canary/1")
    assert [0, 2] == [step.baseline.unsettled for step in counts.freeze(2)]
