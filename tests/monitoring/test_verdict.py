"""The judge's verdicts, and receipts that repeat them."""

import json
import random

import pytest

from lastgood.errors import IntegrityError
from lastgood.monitoring.judge.receipt import recompute, write_receipt
from lastgood.monitoring.judge.verdict import JudgePolicy, RoleCounts, StepCounts, judge

POLICY = JudgePolicy()


def step(share: float, candidate: RoleCounts, baseline: RoleCounts = RoleCounts()) -> StepCounts:  # noqa: B008 - frozen
    return StepCounts(share, candidate, baseline)


def test_no_data_is_neither_bad_nor_suspected() -> None:
    """A rollout nobody has asked anything is open."""
    assert judge([step(0.1, RoleCounts())], POLICY, has_baseline=True).decision == "open"
    assert judge([], POLICY, has_baseline=False).decision == "open"


def test_a_dead_candidate_is_bad_because_it_is_broken() -> None:
    """Four failures on the candidate, none on the baseline."""
    verdict = judge([step(0.1, RoleCounts(40, 40, failed=4), RoleCounts(360, 360))], POLICY, has_baseline=True)
    assert (verdict.decision, verdict.kind) == ("bad", "broken")


def test_failed_and_invalid_add_up() -> None:
    """Two failures and two answers that are not finite are as bad as four failures."""
    verdict = judge([step(0.1, RoleCounts(40, 40, failed=2, invalid=2), RoleCounts(360, 360))], POLICY, has_baseline=True)
    assert verdict.decision == "bad"


def test_when_both_roles_degrade_together_the_version_is_not_to_blame() -> None:
    """A database that is away fails both roles in proportion to their traffic, however long it lasts."""
    verdict = judge([step(0.1, RoleCounts(1000, 1000, failed=900), RoleCounts(9000, 9000, failed=8100))], POLICY, has_baseline=True)
    assert verdict.decision == "open"


def test_incidents_that_strike_batches_are_weighed_by_batches() -> None:
    """At 64 in flight each tick makes one batch of either role; a pause that strikes batches evenly convicts nobody."""
    busy = [step(0.1, RoleCounts(6_400, 1_000, failed=20), RoleCounts(57_600, 1_000, failed=20))]
    assert judge(busy, POLICY, has_baseline=True).decision == "open"
    one_at_a_time = [step(0.1, RoleCounts(6_400, 6_400, failed=20), RoleCounts(57_600, 57_600, failed=20))]
    assert judge(one_at_a_time, POLICY, has_baseline=True).decision == "bad"


def test_a_first_version_is_judged_absolutely() -> None:
    """Without a baseline, more bad answers than tolerated are bad; as many as tolerated are not."""
    assert judge([step(1.0, RoleCounts(20, 20, failed=20))], POLICY, has_baseline=False).decision == "bad"
    assert judge([step(1.0, RoleCounts(2_000, 2_000, failed=60))], POLICY, has_baseline=False).decision == "open"


def test_deaths_convict_only_a_version_that_dies_more_than_its_baseline_and_more_than_tolerated() -> None:
    """Twenty deaths against none within a minute are bad; the same on both roles are the machine's."""
    alone = [step(0.5, RoleCounts(deaths=20, process_seconds=60), RoleCounts(process_seconds=60))]
    assert judge(alone, POLICY, has_baseline=True).kind == "deaths"
    both = [step(0.5, RoleCounts(deaths=20, process_seconds=60), RoleCounts(deaths=20, process_seconds=60))]
    assert judge(both, POLICY, has_baseline=True).decision == "open"
    rare = [step(0.5, RoleCounts(deaths=20, process_seconds=400_000), RoleCounts(process_seconds=400_000))]
    assert judge(rare, POLICY, has_baseline=True).decision == "open"


def test_a_tolerable_candidate_is_rarely_called_bad_however_often_it_is_looked_at() -> None:
    """In 400 rollouts of 20,000 requests at the same 1 % of failures, looked at after each failure, none is called bad."""
    called_bad = 0
    for seed in range(400):
        source = random.Random(seed)  # noqa: S311 - a simulation
        failed = [0, 0]
        # Only requests that fail change the evidence, so only those are drawn: their role is the coin's.
        for _ in range(200):
            failed[source.random() < 0.1] += 1
            verdict = judge([step(0.1, RoleCounts(failed=failed[1]), RoleCounts(failed=failed[0]))], POLICY, has_baseline=True)
            if verdict.decision == "bad":
                called_bad += 1
                break
    assert called_bad <= 3  # 0.2 expected at most; four or more has probability below 0.0001


def test_a_receipt_gives_the_same_verdict_again_after_a_trip_through_json() -> None:
    """What an event keeps is enough to decide again."""
    steps = [step(0.1, RoleCounts(30, 30, failed=3), RoleCounts(300, 300)), step(0.5, RoleCounts(4, 4, failed=4), RoleCounts(5, 5))]
    verdict = judge(steps, POLICY, has_baseline=True)
    receipt = json.loads(json.dumps(write_receipt(steps, POLICY, verdict, has_baseline=True, seed="7")))
    again = recompute(receipt)
    assert again.agrees
    assert verdict == again.verdict


def test_a_receipt_that_was_tampered_with_does_not_agree() -> None:
    """With fewer failures than were counted, the recorded verdict cannot be computed."""
    steps = [step(0.1, RoleCounts(40, 40, failed=6), RoleCounts(300, 300))]
    receipt = write_receipt(steps, POLICY, judge(steps, POLICY, has_baseline=True), has_baseline=True)
    receipt["steps"][0]["candidate"]["failed"] = 1
    assert not recompute(receipt).agrees


def test_something_else_than_a_receipt_is_refused() -> None:
    """An event without a receipt says so."""
    with pytest.raises(IntegrityError, match="no receipt"):
        recompute({"why": "somebody said so"})
