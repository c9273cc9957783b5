"""
Receipts: the payload of an automatic decision's event, enough to compute the decision again.

Reading a receipt runs the same code on the counts it keeps; a receipt whose verdict cannot be recomputed says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lastgood import __version__
from lastgood.errors import IntegrityError
from lastgood.monitoring.judge.paired import Pairs
from lastgood.monitoring.judge.trace import Mark, write_marks
from lastgood.monitoring.judge.verdict import NO_PAIRS, JudgePolicy, RoleCounts, StepCounts, Verdict, judge

FORMAT = "lastgood/receipt/1"


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A decision computed again: what was recorded, what the counts give today, and whether they agree."""

    recorded: Mapping[str, Any]
    verdict: Verdict
    agrees: bool
    written_by: str  # version of lastgood that decided


def write_receipt(
    steps: Sequence[StepCounts],
    policy: JudgePolicy,
    verdict: Verdict,
    *,
    has_baseline: bool,
    pairs: Pairs = NO_PAIRS,
    marks: Sequence[Mark] = (),
    **context: Any,
) -> dict[str, Any]:
    """
    Give the receipt of a verdict as JSON values.

    Args:
        steps: The counts it was given on.
        policy: The thresholds that held.
        verdict: What was decided.
        has_baseline: Whether the tests compared or were absolute.
        pairs: What both versions answered while the candidate was a shadow.
        marks: The trace, to draw the evidence from and to judge it again.
        context: Whatever else a reader needs: versions, generation, the coin's seed.
    """
    return {
        "format": FORMAT,
        "code_version": __version__,
        "policy": asdict(policy),
        "has_baseline": has_baseline,
        "steps": [asdict(step) for step in steps],
        "pairs": asdict(pairs),
        "trace": write_marks(marks),
        "verdict": verdict.to_json(),
        **context,
    }


def recompute(receipt: Mapping[str, Any]) -> Recomputed:
    """
    Compute the verdict of a receipt again.

    Raises:
        IntegrityError: It is not a receipt of a format this version reads.
    """
    steps = read_steps(receipt)
    try:
        policy = JudgePolicy(**receipt["policy"])
        recorded = receipt["verdict"]
        verdict = judge(steps, policy, has_baseline=receipt["has_baseline"], pairs=read_pairs(receipt))
    except (KeyError, TypeError) as exc:
        raise IntegrityError(f"The receipt cannot be read: {exc!r}.") from exc
    agrees = (verdict.decision, verdict.kind) == (recorded["decision"], recorded["kind"])
    return Recomputed(recorded, verdict, agrees, str(receipt["code_version"]))


def read_steps(receipt: Mapping[str, Any]) -> list[StepCounts]:
    """
    Give the counts of a receipt.

    Raises:
        IntegrityError: It is not a receipt of a format this version reads.
    """
    if receipt.get("format") != FORMAT:
        raise IntegrityError(f"This event carries no receipt of a decision: its format is {receipt.get('format')!r}, expected {FORMAT!r}.")
    try:
        return [StepCounts(step["share"], RoleCounts(**step["candidate"]), RoleCounts(**step["baseline"])) for step in receipt["steps"]]
    except (KeyError, TypeError) as exc:
        raise IntegrityError(f"The counts of a receipt cannot be read: {exc!r}.") from exc


def read_pairs(receipt: Mapping[str, Any]) -> Pairs:
    """
    Give the pairs of a receipt; none where it was written before there were any.

    Raises:
        IntegrityError: They cannot be read.
    """
    try:
        return Pairs.from_json(receipt["pairs"]) if "pairs" in receipt else NO_PAIRS
    except (KeyError, TypeError) as exc:
        raise IntegrityError(f"The pairs of a receipt cannot be read: {exc!r}.") from exc


def write_odds(log: float) -> str:
    """Write an e-value that is given by its natural logarithm."""
    return f"{math.exp(log):,.3g}" if log < 300 else f"e^{log:.0f}"
