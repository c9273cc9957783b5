"""
The verdict over a rollout's counts.

The promise: a candidate that is no worse than tolerated is called bad with probability at most ``alpha`` over a whole
rollout, however often it is looked at. It covers the judge alone, for the sharp null (same outcomes, same durations in
both roles); an alert rule that fires by itself is outside of it.

Integers in, a `Verdict` out; nothing here knows where the counts come from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

from lastgood.monitoring.judge.evidence import Contrast, log_contrast_evidence, log_hazard_evidence, log_rate_evidence, log_ratio_evidence
from lastgood.monitoring.judge.paired import Pairs, log_disagreement_evidence, log_label_evidence

# How alpha is spent: half on answers that are broken, the rest on what is rarer or noisier. By the union bound the parts,
# which add up to 1, keep the promise together. ``wrong`` is labelled answers of a canary, ``labels`` labelled pairs of a
# shadow, ``shadow`` its disagreement.
SPENDING: Mapping[str, float] = MappingProxyType(
    {"broken": 0.5, "slow": 0.07, "deaths": 0.04, "wrong": 0.1, "labels": 0.25, "shadow": 0.04}
)
SUSPICION = math.log(10)
NO_PAIRS = Pairs()


@dataclass(frozen=True, slots=True)
class RoleCounts:
    """
    What one role did in one step.

    ``failed``, ``invalid`` and ``slow`` count incidents: a batch that fails is one, however many requests it held.
    ``unsettled`` are batches that were sent to a replica and are not answered yet; ``wrong`` are the answers, among the
    ``labelled`` ones, that were not what the label says.
    """

    requests: int = 0
    batches: int = 0
    failed: int = 0
    invalid: int = 0
    slow: int = 0
    deaths: int = 0
    process_seconds: float = 0.0
    unsettled: int = 0
    labelled: int = 0
    wrong: int = 0

    @property
    def batches_per_request(self) -> float:
        """How many batches a request makes, 1 where each runs alone or none did."""
        return self.batches / self.requests if self.requests and self.batches else 1.0

    @property
    def broken(self) -> int:
        """Incidents in which nobody got a usable answer."""
        return self.failed + self.invalid


@dataclass(frozen=True, slots=True)
class StepCounts:
    """Both roles in one step; ``share`` is the probability of the coin that dealt requests to the candidate."""

    share: float
    candidate: RoleCounts
    baseline: RoleCounts

    @property
    def exposure(self) -> float:
        """
        The candidate's part of what could go wrong, the less convicting of two readings.

        Incidents that strike requests fall on it with ``share``. Incidents that strike batches fall on it with the part of
        the batches that this share makes: under load its batches are smaller, so they are more than its requests. Only the
        batches per request are taken from the counts, for how many requests the coin dealt is chance and no exposure.
        """
        return max(self.share, self.batch_part)

    @property
    def batch_part(self) -> float:
        """The part of the batches that the candidate's share makes."""
        candidate, baseline = self.share * self.candidate.batches_per_request, (1 - self.share) * self.baseline.batches_per_request
        return candidate / (candidate + baseline)

    def contrast(self, candidate_bad: int, baseline_bad: int) -> Contrast:
        """
        Set what went well beside what did not; a batch that is not answered yet speaks for the candidate.

        So answers that come back in another order than they were asked for cannot convict: the candidate's are good until
        they are known to be bad, the baseline's are not good until they are known to be. And of the baseline's good answers
        only as many count as the coin deals for each of the candidate's and one more: while the candidate has no replica,
        all requests are the baseline's, and that is no evidence.
        """
        candidate_good = max(self.candidate.batches - candidate_bad, 0)
        due = _count_due(self.candidate.batches, self.batch_part)
        baseline_good = max(min(self.baseline.batches - baseline_bad - self.baseline.unsettled, due), 0)
        larger = max(self.baseline.batches_per_request / self.candidate.batches_per_request, 1.0)
        return Contrast(self.exposure, candidate_bad, baseline_bad, candidate_good, baseline_good, self.batch_part, larger)

    def contrast_labels(self) -> Contrast:
        """
        Set the labelled answers that were right beside those that were wrong.

        Requests are labelled, not batches, so the coin's share is the exposure. Whether and when a label comes must not
        depend on who answered: then a labelled answer is the candidate's with the coin's probability, however late it is.
        """
        own, other = self.candidate, self.baseline
        good = min(other.labelled - other.wrong, _count_due(own.labelled, self.share))
        return Contrast(self.share, own.wrong, other.wrong, own.labelled - own.wrong, good, self.share)


@dataclass(frozen=True, slots=True)
class JudgePolicy:
    """What is tolerated, and how often a tolerable version may be called bad."""

    alpha: float = 0.001
    tolerated_ratio: float = 1.25  # candidate's rate of bad events over the baseline's
    tolerated_bad_ratio: float = 0.05  # where there is no baseline
    tolerated_deaths_per_hour: float = 1.0  # of one process
    tolerated_loss: float = 0.005  # of accuracy, on labelled pairs of a shadow
    accepted_disagreement: float | None = None  # part of a shadow's answers; None: not measured, so not judged
    success_alpha: float = 0.05  # probability that a candidate at the tolerated ratio is shown to be within it


@dataclass(frozen=True, slots=True)
class Test:
    """One hypothesis: its evidence and the threshold it is held against, both natural logarithms."""

    kind: str
    log_evidence: float
    log_threshold: float

    @property
    def convicts(self) -> bool:
        """Whether the evidence has reached its threshold."""
        return self.log_evidence >= self.log_threshold


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the counts say: bad because of ``kind``, suspected, or nothing yet."""

    decision: Literal["bad", "suspected", "open"]
    kind: str | None
    tests: tuple[Test, ...]

    @property
    def strongest(self) -> float:
        """The largest evidence of any test, ln e."""
        return max(test.log_evidence for test in self.tests)

    def to_json(self) -> dict[str, Any]:
        """Give the form a receipt keeps."""
        return {"decision": self.decision, "kind": self.kind, "tests": [asdict(test) for test in self.tests]}


def judge(steps: Sequence[StepCounts], policy: JudgePolicy, *, has_baseline: bool, pairs: Pairs = NO_PAIRS) -> Verdict:
    """
    Judge a rollout by its counts so far.

    Args:
        steps: Every step of the rollout, in order; a new one begins whenever the share changes.
        policy: What is tolerated.
        has_baseline: Whether there was a concurrent baseline; without one the tests are absolute.
        pairs: Requests that both versions answered, while the candidate was a shadow.

    Returns:
        Bad as soon as one test's e-value reaches 1 / (its part of alpha); suspected above 10.
    """
    evidence = _against_baseline(steps, policy) if has_baseline else _alone(steps, policy)
    if pairs != NO_PAIRS:
        evidence |= _in_shadow(pairs, policy)
    tests = tuple(Test(kind, value, -math.log(policy.alpha * SPENDING[kind])) for kind, value in evidence.items())
    worst = max(tests, key=lambda test: test.log_evidence - test.log_threshold)
    if worst.convicts:
        return Verdict("bad", worst.kind, tests)
    if worst.log_evidence > SUSPICION:
        return Verdict("suspected", worst.kind, tests)
    return Verdict("open", None, tests)


def _against_baseline(steps: Sequence[StepCounts], policy: JudgePolicy) -> dict[str, float]:
    tolerated = policy.tolerated_ratio
    # A process must live to die, so at each death both roles had one: the fair coin. A version is convicted of dying only
    # if it dies more than the baseline and also more than is tolerated of any version.
    deaths = log_ratio_evidence(((0.5, s.candidate.deaths, s.baseline.deaths) for s in steps), tolerated)
    return {
        "broken": log_contrast_evidence([s.contrast(s.candidate.broken, s.baseline.broken) for s in steps], tolerated),
        "slow": log_contrast_evidence([s.contrast(s.candidate.slow, s.baseline.slow) for s in steps], tolerated),
        "deaths": min(deaths, _hazard(steps, policy)),
        "wrong": log_contrast_evidence([s.contrast_labels() for s in steps], tolerated),
    }


def _in_shadow(pairs: Pairs, policy: JudgePolicy) -> dict[str, float]:
    evidence = {"labels": log_label_evidence(pairs.labels, policy.tolerated_loss)}
    if policy.accepted_disagreement is not None:
        evidence["shadow"] = log_disagreement_evidence(pairs.disagreed, pairs.agreed, policy.accepted_disagreement)
    return evidence


def _alone(steps: Sequence[StepCounts], policy: JudgePolicy) -> dict[str, float]:
    broken = sum(step.candidate.broken for step in steps)
    batches = sum(step.candidate.batches for step in steps)
    return {
        "broken": log_rate_evidence(broken, max(batches - broken, 0), policy.tolerated_bad_ratio),
        "deaths": _hazard(steps, policy),
    }


def _hazard(steps: Sequence[StepCounts], policy: JudgePolicy) -> float:
    deaths = sum(step.candidate.deaths for step in steps)
    seconds = math.fsum(step.candidate.process_seconds for step in steps)
    return log_hazard_evidence(deaths, seconds, policy.tolerated_deaths_per_hour / 3600)


def _count_due(candidate: int, part: float) -> int:
    """Give how many the coin deals to the baseline for so many of the candidate's and one more; ``part`` is the candidate's."""
    return int((candidate + 1) * (1 - part) / part) if part > 0 else 0
