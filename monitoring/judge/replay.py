"""
Recorded rollouts judged again, by the policy they had or another: what it would have decided, and when.

A receipt holds the counts after everything bad, so that the moment is known to the request. Of a rollout that was not taken
out, only the counts at each change of its state are recorded: what would have been decided is known at those. Shares are as
they were; a policy that would have withdrawn later than the traffic went on is "open" at its end.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lastgood.errors import IntegrityError
from lastgood.monitoring.judge.paired import Pairs
from lastgood.monitoring.judge.receipt import FORMAT, read_pairs, read_steps
from lastgood.monitoring.judge.trace import read_marks, steps_at
from lastgood.monitoring.judge.verdict import NO_PAIRS, JudgePolicy, StepCounts, Verdict, judge

_ENDS = frozenset({"rollout-stable", "rollout-withdrawn", "withdrawn"})


@dataclass(frozen=True, slots=True)
class Moment:
    """A rollout's counts at one moment."""

    steps: Sequence[StepCounts]
    pairs: Pairs = NO_PAIRS

    def judge(self, policy: JudgePolicy, *, has_baseline: bool) -> Verdict:
        """Give what the judge says of them."""
        return judge(self.steps, policy, has_baseline=has_baseline, pairs=self.pairs)

    @property
    def requests(self) -> int:
        """Requests dealt until then, to both roles."""
        return sum(step.candidate.requests + step.baseline.requests for step in self.steps)

    @property
    def broken(self) -> int:
        """Incidents of the candidate until then in which nobody got a usable answer."""
        return sum(step.candidate.broken for step in self.steps)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One rollout as it was recorded: its moments in order, and what was decided."""

    model: str
    version: int | None
    decided: str  # the last event's kind
    moments: Sequence[Moment]
    exact: bool  # whether the moments are everything bad, or changes of state only
    has_baseline: bool = True


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a policy would have decided: at which of the recorded moments, or at their end."""

    recorded: Recorded
    verdict: Verdict
    at: Moment | None  # None where it would have decided nothing


def replay(recorded: Recorded, policy: JudgePolicy) -> Replayed:
    """Judge the recorded moments in order until one is bad."""
    verdict = judge([], policy, has_baseline=recorded.has_baseline)
    for moment in recorded.moments:
        verdict = moment.judge(policy, has_baseline=recorded.has_baseline)
        if verdict.decision == "bad":
            return Replayed(recorded, verdict, moment)
    return Replayed(recorded, verdict, None)


def list_moments(receipt: Mapping[str, Any]) -> list[Moment]:
    """
    Give a receipt's moments: everything bad, and the decision itself at last.

    Raises:
        IntegrityError: It is not a receipt of a format this version reads.
    """
    steps = read_steps(receipt)
    marks = read_marks(receipt["trace"]) if "trace" in receipt else []
    if any(mark.step >= len(steps) for mark in marks):
        raise IntegrityError("The receipt's trace names a step that its counts do not have.")
    return [*(Moment(steps_at(mark, steps), mark.pairs) for mark in marks), Moment(steps, read_pairs(receipt))]


def read_log(events: Iterable[Mapping[str, Any]]) -> list[Recorded]:
    """
    Find the rollouts in a log of events.

    Args:
        events: As ``lastgood log --json`` writes them, in any order.

    Raises:
        IntegrityError: An event has no position, or counts that cannot be read.
    """
    found: list[Recorded] = []
    running: dict[tuple[str, int | None], list[Moment]] = {}
    try:
        for event in sorted(events, key=lambda own: int(own["position"])):
            kind, model, payload = event["kind"], event["model"], event["payload"]
            key = (model, payload.get("version"))
            receipt = payload.get("receipt")
            if kind == "withdrawn" and receipt is not None and receipt.get("format") == FORMAT:
                running.pop(key, None)
                found.append(Recorded(*key, kind, list_moments(receipt), exact=True, has_baseline=receipt["has_baseline"]))
                continue
            if not str(kind).startswith("rollout-") and kind != "withdrawn":
                continue
            counts = payload.get("counts")
            if counts:
                running.setdefault(key, []).append(Moment(read_steps({"format": FORMAT, "steps": counts})))
            if kind in _ENDS and (moments := running.pop(key, None)):
                compared = any(step.baseline.requests for step in moments[-1].steps)
                found.append(Recorded(*key, kind, moments, exact=False, has_baseline=compared))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise IntegrityError(f"The log cannot be read: {exc!r}. Expected what `lastgood log --json` writes.") from exc
    for (model, version), moments in running.items():
        compared = any(step.baseline.requests for step in moments[-1].steps)
        found.append(Recorded(model, version, "running", moments, exact=False, has_baseline=compared))
    return found
