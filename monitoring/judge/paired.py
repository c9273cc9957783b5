"""
The judge in shadow: two versions that answered the same requests, compared pair by pair, valid at every look.

Both see each request, so there is no coin; what is compared is the loss of accuracy on labelled pairs, and on unlabelled
ones how often the two disagree.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from lastgood.monitoring.judge.evidence import sum_logs

# Bets on labelled pairs: the part of the capital that is put on each pair's loss, and the part of the stake on each bet.
# Large parts are best where nearly every pair on which the two differ is lost, small ones where most of them cancel out.
_LABEL_BETS: Mapping[float, float] = MappingProxyType({0.12: 0.1, 0.25: 0.2, 0.45: 0.3, 0.7: 0.3, 0.9: 0.1})
# Bets on disagreement: times the accepted odds.
_ODDS_BETS: Mapping[float, float] = MappingProxyType({1.4: 0.25, 2.0: 0.3, 4.0: 0.25, 10.0: 0.2})


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Labelled pairs: on how many only the live version was right (lost), only the candidate (won), or both or neither (tied)."""

    lost: int = 0
    won: int = 0
    tied: int = 0

    @property
    def pairs(self) -> int:
        """All of them."""
        return self.lost + self.won + self.tied


@dataclass(frozen=True, slots=True)
class Pairs:
    """What both versions answered to the same requests: how often the same, and what labels said of it."""

    agreed: int = 0
    disagreed: int = 0
    labels: PairCounts = field(default_factory=PairCounts)

    @property
    def compared(self) -> int:
        """Requests that both answered."""
        return self.agreed + self.disagreed

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Pairs":
        """Read what `dataclasses.asdict` gave."""
        return cls(value["agreed"], value["disagreed"], PairCounts(**value["labels"]))


def log_label_evidence(counts: PairCounts, accepted_loss: float) -> float:
    """
    Weigh labelled pairs against "the candidate loses at most ``accepted_loss`` of accuracy against the live version".

    A bet that puts the part x of its capital on each pair's loss (1 lost, 0 tied, -1 won) multiplies it by
    ``1 + x (loss - accepted_loss)``, whose mean is 1 or less while the mean loss is accepted, in whatever order the labels
    come and however the rate of ties changes.

    Args:
        counts: Labelled pairs so far.
        accepted_loss: What the gate accepted, in [0, 1): 0.01 is one point.

    Returns:
        ln e of a mixture of bets.

    Source: Waudby-Smith, Ramdas, "Estimating means of bounded random variables by betting", Journal of the Royal Statistical
    Society B 86, 2024.
    """
    logs = []
    for part, stake in _LABEL_BETS.items():
        # A won pair must leave some capital: the part is of what can be lost at most.
        own = part / (1 + accepted_loss)
        grown = (
            counts.lost * math.log1p(own * (1 - accepted_loss))
            + counts.won * math.log1p(-own * (1 + accepted_loss))
            + counts.tied * math.log1p(-own * accepted_loss)
        )
        logs.append(math.log(stake) + grown)
    return sum_logs(logs)


def log_disagreement_evidence(disagreed: int, agreed: int, accepted: float) -> float:
    """
    Weigh unlabelled pairs against "the versions disagree on at most ``accepted`` of the requests".

    Args:
        disagreed: Pairs whose answers differ.
        agreed: Pairs whose answers do not.
        accepted: The ratio of disagreement that the gate accepted, in (0, 1).

    Returns:
        ln e of a mixture of Bernoulli likelihood ratios.

    Source: Robbins, "Statistical methods related to the law of the iterated logarithm", Annals of Mathematical Statistics 41, 1970.
    """
    logs = []
    for times, stake in _ODDS_BETS.items():
        odds = times * accepted / (1 - accepted)
        rate = odds / (1 + odds)
        logs.append(math.log(stake) + disagreed * math.log(rate / accepted) + agreed * math.log((1 - rate) / (1 - accepted)))
    return sum_logs(logs)
