"""Several gateways: pooled counts and split alpha keep the promise of one."""

import pytest

from lastgood.errors import UsageError
from lastgood.monitoring.judge.pooling import pool, split_alpha
from lastgood.monitoring.judge.verdict import JudgePolicy, RoleCounts, StepCounts, judge

POLICY = JudgePolicy()


def test_what_no_gateway_can_tell_alone_they_tell_together() -> None:
    """Two bad answers at each of two gateways convict when they are pooled."""
    own = [StepCounts(0.1, RoleCounts(2, 2, failed=2), RoleCounts(18, 18))]
    assert judge(own, POLICY, has_baseline=True).decision != "bad"
    assert judge(pool([own, own]), POLICY, has_baseline=True).decision == "bad"


def test_a_gateway_that_is_a_step_behind_is_pooled_as_far_as_it_got() -> None:
    """Its later steps are missing, not empty."""
    first, second = StepCounts(0.1, RoleCounts(5, 4), RoleCounts(9, 9)), StepCounts(0.5, RoleCounts(1, 1), RoleCounts(2, 2))
    assert [StepCounts(0.1, RoleCounts(10, 8), RoleCounts(18, 18)), second] == pool([[first, second], [first]])
    assert [] == pool([])


def test_different_shares_in_one_step_are_refused() -> None:
    """There is no coin of which both counts are."""
    with pytest.raises(UsageError, match=r"\[0.1, 0.5\]"):
        pool([[StepCounts(0.1, RoleCounts(), RoleCounts())], [StepCounts(0.5, RoleCounts(), RoleCounts())]])


def test_split_alpha_adds_up_to_the_whole() -> None:
    """Four gateways with a quarter each; none is no number of gateways."""
    assert POLICY.alpha == pytest.approx(4 * split_alpha(POLICY, 4).alpha)
    dead = [StepCounts(0.1, RoleCounts(4, 4, failed=4), RoleCounts(32, 32))]
    assert judge(dead, POLICY, has_baseline=True).decision == "bad"
    assert judge(dead, split_alpha(POLICY, 64), has_baseline=True).decision != "bad"
    with pytest.raises(UsageError, match="0 gateways"):
        split_alpha(POLICY, 0)
