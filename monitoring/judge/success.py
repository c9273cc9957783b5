"""
The test of success: has a candidate been shown to be within the tolerated ratio?

Separate from the judge, with an alpha of its own: that nothing speaks against a version is no proof for it. Where a
candidate is bad and shown to be good at once, bad wins: the caller asks the judge first.

It is off by default. Bad events are what it learns from, and a healthy model has few: at an even split and no difference
it takes about five hundred of them, so a step by requests and seconds nearly always ends first.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from lastgood.monitoring.judge.evidence import candidate_part, sum_logs
from lastgood.monitoring.judge.verdict import JudgePolicy, StepCounts

# Bets on the candidate's rate over the tolerated one's, and the part of the stake on each.
_BETS: Mapping[float, float] = MappingProxyType({0.8: 0.5, 0.6: 0.3, 0.3: 0.2})


def log_success_evidence(steps: Sequence[StepCounts], policy: JudgePolicy) -> float:
    """
    Weigh broken answers against "the candidate's rate is at least the tolerated ratio times the baseline's".

    Args:
        steps: Every step of the rollout, in order.
        policy: Its tolerated ratio is the margin.

    Returns:
        ln e, 0 where there is nothing to learn from. The candidate's exposure is the coin's share here, the smaller of the
        two readings of `StepCounts.exposure`: the one that acquits less.

    Source: as `lastgood.monitoring.judge.evidence.log_ratio_evidence`, with the hypotheses exchanged; non-inferiority
    beside a test of harm in one release: Lindon, Sanden, Shirikian, "Rapid regression detection in software deployments
    through sequential testing", arXiv 2205.14762, 2022.
    """
    logs = [math.log(stake) for stake in _BETS.values()]
    for step in steps:
        candidate, baseline = step.candidate.broken, step.baseline.broken
        if not 0 < step.share < 1 or not candidate + baseline:
            continue
        null = candidate_part(step.share, policy.tolerated_ratio)
        for index, ratio in enumerate(_BETS):
            part = candidate_part(step.share, ratio * policy.tolerated_ratio)
            logs[index] += candidate * math.log(part / null) + baseline * math.log((1 - part) / (1 - null))
    return sum_logs(logs)


def success_threshold(policy: JudgePolicy) -> float:
    """Give the ln e from which a candidate counts as shown to be within the tolerated ratio."""
    return -math.log(policy.success_alpha)
