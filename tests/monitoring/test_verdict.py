"""The judge's verdicts, and receipts that repeat them."""

import json
import math
import random

import pytest

from lastgood.errors import IntegrityError
from lastgood.monitoring.judge.receipt import recompute, write_receipt
from lastgood.monitoring.judge.verdict import SPENDING, JudgePolicy, RoleCounts, StepCounts, judge

POLICY = JudgePolicy()


def step(share: float, candidate: RoleCounts, baseline: RoleCounts = RoleCounts()) -> StepCounts:  # noqa: B008 - frozen
    return StepCounts(share, candidate, baseline)


def test_no_data_is_neither_bad_nor_suspected() -> None:
    """A rollout nobody has asked anything is open."""
    assert judge([step(0.1, RoleCounts())], POLICY, has_baseline=True).decision == "open"
    assert judge([], POLICY, has_baseline=False).decision == "open"


def test_a_dead_candidate_is_bad_because_it_is_broken() -> None:
    """Four failures of four on the candidate, none of 36 on the baseline."""
    verdict = judge([step(0.1, RoleCounts(4, 4, failed=4), RoleCounts(36, 36))], POLICY, has_baseline=True)
    assert (verdict.decision, verdict.kind) == ("bad", "broken")


def test_failed_and_invalid_add_up() -> None:
    """Two failures and two answers that are not finite are as bad as four failures."""
    verdict = judge([step(0.1, RoleCounts(4, 4, failed=2, invalid=2), RoleCounts(36, 36))], POLICY, has_baseline=True)
    assert (verdict.decision, verdict.kind) == ("bad", "broken")


def test_alpha_is_spent_whole_and_half_of_it_on_broken_answers() -> None:
    """The parts add up to 1, so that all tests together keep the promise."""
    assert math.isclose(1.0, sum(SPENDING.values()))
    assert math.isclose(0.5, SPENDING["broken"])
    half = JudgePolicy(alpha=POLICY.alpha / 2)
    first, second = (judge([step(0.1, RoleCounts())], policy, has_baseline=True) for policy in (POLICY, half))
    assert all(b.log_threshold == pytest.approx(a.log_threshold + math.log(2)) for a, b in zip(first.tests, second.tests, strict=True))


def test_each_step_is_weighed_by_its_own_share() -> None:
    """Events dealt at 90 % are the candidate's due; the same ones charged to a step at 10 % would convict it."""
    early, late = step(0.1, RoleCounts(100, 100, failed=1), RoleCounts(900, 900, failed=9)), RoleCounts(900, 900, failed=45)
    assert judge([early, step(0.9, late, RoleCounts(100, 100, failed=5))], POLICY, has_baseline=True).decision == "open"
    assert judge([early, step(0.1, late, RoleCounts(100, 100, failed=5))], POLICY, has_baseline=True).decision == "bad"


def test_a_drift_on_both_roles_that_coincides_with_a_step_blames_nobody() -> None:
    """Errors rise from 0.1 to 20 % as the candidate gets 90 %: pooled over the steps it looks worse, step by step it is not."""
    calm = step(0.1, RoleCounts(1_000, 1_000, failed=1), RoleCounts(9_000, 9_000, failed=9))
    rough = step(0.9, RoleCounts(900, 900, failed=180), RoleCounts(100, 100, failed=20))
    assert judge([calm, rough], POLICY, has_baseline=True).decision == "open"
    pooled = step(0.19, RoleCounts(1_900, 1_900, failed=181), RoleCounts(9_100, 9_100, failed=29))
    assert judge([pooled], POLICY, has_baseline=True).decision == "bad"


def test_larger_batches_of_the_candidate_may_fail_in_proportion() -> None:
    """At 90 % and 64 in flight its batches hold nine times as many requests: 83 in a hundred fail where 17 of the small ones do."""
    large = [step(0.9, RoleCounts(5_760, 100, failed=83), RoleCounts(640, 100, failed=17))]
    assert judge(large, POLICY, has_baseline=True).decision == "open"
    even = [step(0.5, RoleCounts(3_200, 100, failed=83), RoleCounts(3_200, 100, failed=17))]
    assert judge(even, POLICY, has_baseline=True).decision == "bad"


def test_what_the_baseline_answers_while_the_candidate_has_no_replica_is_no_evidence() -> None:
    """Forty good answers of the candidate, one bad, then five thousand of the baseline alone: open, as it would be without them."""
    candidate = RoleCounts(41, 41, failed=1)
    verdicts = [judge([step(0.1, candidate, RoleCounts(n, n))], POLICY, has_baseline=True) for n in (378, 5_378)]
    assert ["open", "open"] == [verdict.decision for verdict in verdicts]
    assert verdicts[0].strongest == pytest.approx(verdicts[1].strongest)


def test_answers_that_are_not_back_yet_do_not_convict() -> None:
    """An outage of both roles, whose failures come back from the candidate first: its failures alone are known, nothing is good."""
    waiting = RoleCounts(30, 30, unsettled=30)
    assert judge([step(0.1, RoleCounts(4, 4, failed=4), waiting)], POLICY, has_baseline=True).decision != "bad"
    answered = RoleCounts(30, 30, unsettled=0)
    assert judge([step(0.1, RoleCounts(4, 4, failed=4), answered)], POLICY, has_baseline=True).decision == "bad"


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
        failed, good = [0, 0], [0, 0]
        for _ in range(200):
            # A hundred requests for each one that fails; the role of every one of them is the coin's.
            for _ in range(source.randrange(1, 199)):
                good[source.random() < 0.1] += 1
            failed[source.random() < 0.1] += 1
            roles = [RoleCounts(failed[role] + good[role], failed[role] + good[role], failed=failed[role]) for role in (1, 0)]
            if judge([step(0.1, *roles)], POLICY, has_baseline=True).decision == "bad":
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
    steps = [step(0.1, RoleCounts(6, 6, failed=6), RoleCounts(60, 60))]
    receipt = write_receipt(steps, POLICY, judge(steps, POLICY, has_baseline=True), has_baseline=True)
    receipt["steps"][0]["candidate"]["failed"] = 1
    assert not recompute(receipt).agrees


def test_something_else_than_a_receipt_is_refused() -> None:
    """An event without a receipt says so."""
    with pytest.raises(IntegrityError, match="no receipt"):
        recompute({"why": "somebody said so"})


def labelled(share: float, candidate: tuple[int, int], baseline: tuple[int, int]) -> list[StepCounts]:
    """One step: labelled answers and wrong ones of each role."""
    own, other = (RoleCounts(1000, 1000, labelled=count, wrong=wrong) for count, wrong in (candidate, baseline))
    return [StepCounts(share, own, other)]


def test_wrong_answers_of_the_candidate_convict_by_their_own_part_of_alpha() -> None:
    """20 of 100 wrong beside 30 of 900; not 4 of 100, nor 20 beside 180."""
    verdict = judge(labelled(0.1, (100, 20), (900, 30)), JudgePolicy(), has_baseline=True)
    assert ("bad", "wrong") == (verdict.decision, verdict.kind)
    assert "open" == judge(labelled(0.1, (100, 4), (900, 30)), JudgePolicy(), has_baseline=True).decision
    assert "open" == judge(labelled(0.1, (100, 20), (900, 180)), JudgePolicy(), has_baseline=True).decision


def test_labels_of_the_baseline_alone_are_no_evidence() -> None:
    """While the candidate has no replica, everything is the baseline's; good answers of it prove nothing then."""
    verdict = judge(labelled(0.5, (1, 1), (100_000, 0)), JudgePolicy(), has_baseline=True)
    assert "open" == verdict.decision
