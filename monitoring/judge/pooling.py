"""Several gateways, one promise: either their counts are pooled and judged once, or each judges alone with a part of alpha."""

from collections.abc import Sequence
from dataclasses import fields, replace

from lastgood.errors import UsageError
from lastgood.monitoring.judge.verdict import JudgePolicy, RoleCounts, StepCounts


def pool(gateways: Sequence[Sequence[StepCounts]]) -> list[StepCounts]:
    """
    Add the gateways' counts up, step by step: one test on all of the traffic, with the whole alpha.

    Args:
        gateways: The steps of each; one that has not reached the others' last step has fewer.

    Raises:
        UsageError: Two gateways dealt by different shares in the same step: their counts are not of one coin.
    """
    pooled = []
    for number in range(max(map(len, gateways), default=0)):
        own = [steps[number] for steps in gateways if number < len(steps)]
        shares = {step.share for step in own}
        if len(shares) > 1:
            raise UsageError(
                f"Step {number + 1} was dealt by the shares {sorted(shares)} at different gateways; counts are pooled where the "
                "share is the same. Judge each gateway alone, with its part of alpha."
            )
        candidate, baseline = _add([step.candidate for step in own]), _add([step.baseline for step in own])
        pooled.append(StepCounts(own[0].share, candidate, baseline))
    return pooled


def split_alpha(policy: JudgePolicy, gateways: int) -> JudgePolicy:
    """
    Give the policy by which each of so many gateways judges alone: by the union bound the promise holds for all together.

    Where the counts can be pooled that is better: with alpha split four ways, a dead version needs one more bad answer, at each.

    Raises:
        UsageError: There is no gateway.
    """
    if gateways < 1:
        raise UsageError(f"{gateways} gateways cannot share alpha; expected 1 or more.")
    return replace(policy, alpha=policy.alpha / gateways, success_alpha=policy.success_alpha / gateways)


def _add(counts: Sequence[RoleCounts]) -> RoleCounts:
    return RoleCounts(**{field.name: sum(getattr(own, field.name) for own in counts) for field in fields(RoleCounts)})
