"""
E-values: how much counts speak against "the candidate is tolerable", valid at every look.

An e-process starts at 1 and, while its null hypothesis holds, exceeds 1/alpha at any time with probability at most
alpha (Ville's inequality). So it may be looked at after every request, and stopping when it is large is no cheating.
All functions give natural logarithms: a dead version reaches numbers no float holds.

Source: Ville, "Étude critique de la notion de collectif", 1939; Grünwald, de Heide, Koolen, "Safe testing",
arXiv 1906.07801; Ramdas, Grünwald, Vovk, Shafer, "Game-theoretic statistics and safe anytime-valid inference",
arXiv 2210.01948.
"""

import math
from collections.abc import Iterable, Sequence

# Alternatives the mixtures bet on. Half of the stake is on a version that fails always: it must be out within a few
# requests. The rest is spread evenly from barely above the tolerated ratio to sixty times it.
_DEAD_STAKE = 0.5
_RATIOS = (1.6, 2.5, 4.0, 8.0, 20.0, 60.0)  # times the tolerated ratio
_DEAD_RATIO = 1000.0
_LOG_STAKES = (math.log(_DEAD_STAKE), *(math.log((1 - _DEAD_STAKE) / len(_RATIOS)),) * len(_RATIOS))


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


def log_ratio_evidence(counts: Iterable[tuple[float, int, int]], tolerated: float) -> float:
    """
    Weigh counts of bad events against "the candidate's rate is at most ``tolerated`` times the baseline's".

    Given that an event is bad, it falls on the candidate with at most `candidate_part` of the tolerated ratio, whatever
    the common rate does over time: a likelihood ratio of Bernoulli trials needs no knowledge of it. A product over steps
    with different shares, mixed over several ratios, stays an e-process.

    Args:
        counts: For each step: the candidate's share in (0, 1), bad events on the candidate, bad events on the baseline.
        tolerated: The ratio that is still no worse, 1 or more.

    Returns:
        ln e. Steps where only one role could get an event say nothing and add 0.
    """
    ratios = (_DEAD_RATIO * tolerated, *(ratio * tolerated for ratio in _RATIOS))
    logs = list(_LOG_STAKES)
    for share, candidate, baseline in counts:
        if not 0 < share < 1 or not candidate + baseline:
            continue
        null = candidate_part(share, tolerated)
        for index, ratio in enumerate(ratios):
            part = candidate_part(share, ratio)
            logs[index] += candidate * math.log(part / null) + baseline * math.log((1 - part) / (1 - null))
    return _log_sum(logs)


def log_rate_evidence(bad: int, good: int, tolerated: float) -> float:
    """
    Weigh a bad ratio against "at most ``tolerated`` of the answers are bad", where there is nothing to compare with.

    Args:
        bad: Answers that were bad.
        good: Answers that were not.
        tolerated: The bad ratio that is still accepted, in (0, 0.5).

    Returns:
        ln e of a mixture of Bernoulli likelihood ratios.
    """
    rest = 1 - tolerated
    alternatives = (0.99, *(tolerated + rest * part for part in (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)))
    logs = [
        stake + bad * math.log(rate / tolerated) + good * math.log((1 - rate) / rest)
        for stake, rate in zip(_LOG_STAKES, alternatives, strict=True)
    ]
    return _log_sum(logs)


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
    ``(b/a)^n exp(-(b - a) t)``, is a martingale under rate a.
    """
    logs = []
    for stake, ratio in zip(_LOG_STAKES, (_DEAD_RATIO, *_RATIOS), strict=True):
        logs.append(stake + deaths * math.log(ratio) - (ratio - 1) * tolerated_per_second * seconds)
    return _log_sum(logs)


def _log_sum(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(math.fsum(math.exp(value - top) for value in logs))
