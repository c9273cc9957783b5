"""
E-values: how much counts speak against "the candidate is tolerable", valid at every look.

An e-process starts at 1 and, while its null hypothesis holds, exceeds 1/alpha at any time with probability at most
alpha (Ville's inequality). So it may be looked at after every request, and stopping when it is large is no cheating.
Each function mixes several bets: an average of e-processes is one. All give natural logarithms: a dead version reaches
numbers no float holds.

Source: Ville, "Étude critique de la notion de collectif", 1939; mixtures: Robbins, "Statistical methods related to the law
of the iterated logarithm", Annals of Mathematical Statistics 41, 1970; Grünwald, de Heide, Koolen, "Safe testing", Journal of
the Royal Statistical Society B 86, 2024; Ramdas, Grünwald, Vovk, Shafer, "Game-theoretic statistics and safe anytime-valid
inference", Statistical Science 38, 2023; counts of two arms in production: Lindon, Malek, "Anytime-valid inference for
multinomial count data", Advances in Neural Information Processing Systems 35, 2022.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

# Bets on how many times the tolerated ratio the candidate's rate is, and the part of the stake on each. Chosen for the
# fewest requests from 0.1 to 2 % of errors at a share of 10 % (16 times the tolerated ratio).
RATIO_BETS: Mapping[float, float] = MappingProxyType({1.6: 0.1, 2.5: 0.1, 4.0: 0.15, 8.0: 0.25, 20.0: 0.2, 60.0: 0.1, 1000.0: 0.1})
# Bets on outcomes: the candidate's and the baseline's rate of bad events. A dead version must be out within a few requests.
OUTCOME_BETS: Mapping[tuple[float, float], float] = MappingProxyType({(0.98, 0.02): 0.7, (0.5, 0.01): 0.3})
OUTCOME_STAKE = 0.4
# Where there is no baseline, half of the stake is on a version that fails always.
_ALONE_STAKES = (0.5, *(0.5 / 6,) * 6)
_ALONE_PARTS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)


class Contrast(NamedTuple):
    """
    Both roles in one step: bad events, what was not bad, and what was exposed.

    ``exposure`` is the candidate's part, in (0, 1), of what a bad event could strike, ``part`` its part of the batches;
    ``larger`` says how many times larger its batches are than the baseline's, 1 where they are smaller.
    """

    exposure: float
    candidate_bad: int
    baseline_bad: int
    candidate_good: int
    baseline_good: int
    part: float
    larger: float = 1.0


def candidate_part(share: float, ratio: float) -> float:
    """
    Give the part of bad events that falls on the candidate when its rate is ``ratio`` times the baseline's.

    Args:
        share: The candidate's part of the exposure, in [0, 1].
        ratio: Candidate's rate of bad events over the baseline's, 0 or more.

    Returns:
        ``ratio * share / (ratio * share + 1 - share)``, in [0, 1].
    """
    weighted = ratio * share
    return weighted / (weighted + 1 - share)


def log_contrast_evidence(contrasts: Sequence[Contrast], tolerated: float) -> float:
    """
    Weigh all outcomes against "the candidate's rate of bad events is at most ``tolerated`` times the baseline's".

    Args:
        contrasts: One for each step.
        tolerated: The ratio that is still no worse, 1 or more.

    Returns:
        ln e: two fifths of the stake on `log_outcome_evidence`, which is quick where nearly everything fails, the rest on
        `log_ratio_evidence`, which needs no good answers to be of one kind and finds what fails seldom.
    """
    outcomes = log_outcome_evidence(contrasts, tolerated)
    ratios = log_ratio_evidence((contrast[:3] for contrast in contrasts), tolerated)
    return sum_logs((math.log(OUTCOME_STAKE) + outcomes, math.log(1 - OUTCOME_STAKE) + ratios))


def log_ratio_evidence(counts: Iterable[tuple[float, int, int]], tolerated: float) -> float:
    """
    Weigh bad events alone against "the candidate's rate is at most ``tolerated`` times the baseline's".

    Given that an event is bad, it falls on the candidate with at most `candidate_part` of the tolerated ratio, whatever
    the common rate does over time: a likelihood ratio of Bernoulli trials needs no knowledge of it. A product over steps
    with different shares, mixed over several ratios, stays an e-process.

    Args:
        counts: For each step: the candidate's exposure in (0, 1), bad events on the candidate, bad events on the baseline.
        tolerated: The ratio that is still no worse, 1 or more.

    Returns:
        ln e. Steps where only one role could get an event say nothing and add 0.

    Source: the likelihood-ratio martingale of Wald, "Sequential analysis", 1947, in Robbins' mixture; conditioning on the
    total makes two Poisson rates one binomial: Przyborowski, Wilenski, Biometrika 31, 1940.
    """
    logs = [math.log(stake) for stake in RATIO_BETS.values()]
    for exposure, candidate, baseline in counts:
        if not 0 < exposure < 1 or not candidate + baseline:
            continue
        for index, (hit, miss) in enumerate(ratio_steps(exposure, tolerated)):
            logs[index] += candidate * hit + baseline * miss
    return sum_logs(logs)


@lru_cache(maxsize=1024)
def ratio_steps(exposure: float, tolerated: float) -> tuple[tuple[float, float], ...]:
    """Give, for each of `RATIO_BETS`, what a bad event on the candidate and one on the baseline add to ln e."""
    null = candidate_part(exposure, tolerated)
    parts = [candidate_part(exposure, ratio * tolerated) for ratio in RATIO_BETS]
    return tuple((math.log(part / null), math.log((1 - part) / (1 - null))) for part in parts)


def log_outcome_evidence(contrasts: Iterable[Contrast], tolerated: float) -> float:
    """
    Weigh good and bad outcomes together against "the candidate's rate is at most ``tolerated`` times the baseline's".

    The coin says nothing about how an answer ends, so that nearly all of the candidate's are bad while nearly all of the
    baseline's are good is worth more than the bad ones alone. Each outcome's factor is its probability under the bet over
    that under the null hypothesis' closest member, whatever the common rate does over time. A part of the stake is kept for
    each step's begin, so that good answers given earlier do not shield a version that has gone bad since.

    The unit is the batch. One that holds n times as many requests is struck up to n times as often, so larger batches of the
    candidate are tolerated in proportion.

    Args:
        contrasts: One for each step.
        tolerated: The ratio that is still no worse, 1 or more.

    Returns:
        ln e. Steps where only one role could get an event say nothing and add 0.

    Source: the reverse information projection on a convex null hypothesis gives an e-value: Grünwald, de Heide, Koolen,
    "Safe testing", 2024, theorem 1; for two binomials: Turner, Ly, Grünwald, "Generic E-variables for exact sequential
    k-sample tests that allow for optional stopping", Journal of Statistical Planning and Inference 230, 2024.
    """
    # For each bet, the logarithm of what was staked at each step's begin and what became of it since.
    staked: list[list[float]] = [[] for _ in OUTCOME_BETS]
    for number, contrast in enumerate(contrasts):
        steps = outcome_steps(contrast.part, tolerated * contrast.larger) if 0 < contrast.part < 1 else None
        for index, own in enumerate(staked):
            grown = 0.0 if steps is None else sum(each * count for each, count in zip(steps[index], contrast[1:5], strict=True))
            own[:] = [value + grown for value in (*own, math.log(step_stake(number)))]
    kept = 1 - math.fsum(step_stake(number) for number in range(len(staked[0])))
    return sum_logs(
        [math.log(stake) + value for stake, own in zip(OUTCOME_BETS.values(), staked, strict=True) for value in (*own, math.log(kept))]
    )


def step_stake(number: int) -> float:
    """Give the part of the stake that is bet from the begin of this step (from 0) on; over all steps they add up to 1."""
    return 0.6 if number == 0 else 0.4 / (number * (number + 1))


@lru_cache(maxsize=1024)
def outcome_steps(part: float, tolerated: float) -> tuple[tuple[float, float, float, float], ...]:
    """
    Give, for each of `OUTCOME_BETS`, what an outcome adds to ln e.

    Returns:
        In the order of `Contrast`: candidate bad, baseline bad, candidate good, baseline good. Nothing for a bet that is
        itself tolerated.
    """
    found: list[tuple[float, float, float, float]] = []
    for bad, common in OUTCOME_BETS:
        if bad <= tolerated * common:
            found.append((0.0, 0.0, 0.0, 0.0))
            continue
        rate = closest_rate(part, tolerated, bad, common)
        null = min(tolerated * rate, 1.0)
        found.append((math.log(bad / null), math.log(common / rate), math.log((1 - bad) / (1 - null)), math.log((1 - common) / (1 - rate))))
    return tuple(found)


def closest_rate(part: float, tolerated: float, candidate: float, baseline: float) -> float:
    """
    Give the baseline's rate in the tolerable pair of rates that is closest to a bet, by relative entropy.

    On the null hypothesis' edge, where the candidate's rate is ``tolerated`` times the baseline's, the expected logarithm of
    the likelihood is concave in the rate; its derivative vanishes at the smaller root of a quadratic.

    Args:
        part: The candidate's part of the outcomes, in (0, 1).
        tolerated: 1 or more.
        candidate: Rate of bad outcomes bet on, in (0, 1), more than ``tolerated`` times the baseline's.
        baseline: The same of the baseline, in (0, 1).
    """
    events = part * candidate + (1 - part) * baseline
    linear = events * (1 + tolerated) + part * (1 - candidate) * tolerated + (1 - part) * (1 - baseline)
    return (linear - math.sqrt(linear * linear - 4 * tolerated * events)) / (2 * tolerated)


def log_rate_evidence(bad: int, good: int, tolerated: float) -> float:
    """
    Weigh a bad ratio against "at most ``tolerated`` of the answers are bad", where there is nothing to compare with.

    Args:
        bad: Answers that were bad.
        good: Answers that were not.
        tolerated: The bad ratio that is still accepted, in (0, 0.5).

    Returns:
        ln e of a mixture of Bernoulli likelihood ratios.

    Source: Robbins, 1970.
    """
    rest = 1 - tolerated
    alternatives = (0.99, *(tolerated + rest * part for part in _ALONE_PARTS))
    return sum_logs(
        [
            math.log(stake) + bad * math.log(rate / tolerated) + good * math.log((1 - rate) / rest)
            for stake, rate in zip(_ALONE_STAKES, alternatives, strict=True)
        ]
    )


def log_hazard_evidence(deaths: int, seconds: float, tolerated_per_second: float) -> float:
    """
    Weigh deaths against "at most ``tolerated_per_second`` deaths for each second a process lived".

    Args:
        deaths: Processes that died.
        seconds: Process-seconds lived, all processes together.
        tolerated_per_second: The rate that is still accepted, above 0.

    Returns:
        ln e of a mixture of Poisson likelihood ratios.

    Source: the likelihood ratio of a Poisson process with rate b against rate a over time t with n events,
    ``(b/a)^n exp(-(b - a) t)``, is a martingale under rate a: Brémaud, "Point processes and queues", 1981.
    """
    return sum_logs(
        [math.log(stake) + deaths * math.log(ratio) - (ratio - 1) * tolerated_per_second * seconds for ratio, stake in RATIO_BETS.items()]
    )


def sum_logs(logs: Sequence[float]) -> float:
    """Give the logarithm of a sum of numbers given by their logarithms, one or more."""
    top = max(logs)
    return top + math.log(math.fsum(math.exp(value - top) for value in logs))
