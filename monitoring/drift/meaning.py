"""
What drift means: a new model is needed, the candidate is to be looked at, or nothing. A pure rule; who acts on it is elsewhere.

Inputs do not depend on the version that answers them. So where they moved and both roles suffer alike, or there is only one, the world
has changed and going back would not help: retrain, which is an alert and never a withdrawal. Where only the candidate's answers
moved or got worse while the baseline's, on a random share of the same traffic, did not, the candidate is suspect: the judge
decides, by what it counts. A shift in inputs during a rollout in which neither role suffers waits for its end.
"""

from dataclasses import dataclass
from typing import Literal

from lastgood.monitoring.drift.report import DriftReport

Conclusion = Literal["retrain", "suspect", "none"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a role's monitor sees: whether its inputs moved, its outputs moved, and whether the accuracy it estimates fell."""

    inputs_moved: bool = False
    outputs_moved: bool = False
    accuracy_fell: bool = False

    @property
    def hurt(self) -> bool:
        """Whether the answers are no longer what was tested."""
        return self.outputs_moved or self.accuracy_fell


@dataclass(frozen=True, slots=True)
class Meaning:
    """A conclusion and a sentence why."""

    conclusion: Conclusion
    why: str


def read_sighting(report: DriftReport) -> Sighting:
    """Take from a report what the rule asks; only a raised alarm says that something moved."""
    fell = report.accuracy is not None and report.accuracy.fell
    return Sighting(report.inputs_moved, report.outputs_moved, report.alarm and fell)


def conclude(live: Sighting, baseline: Sighting | None = None) -> Meaning:
    """
    Say what drift means.

    Args:
        live: What answers: the candidate during a rollout, the only version otherwise.
        baseline: The version beside the candidate; None without a rollout.
    """
    if baseline is None:
        if live.inputs_moved:
            return Meaning("retrain", "The inputs are not what the version was tested on: train on newer rows.")
        if live.hurt:
            return Meaning(
                "retrain", "The answers moved and no watched input did: look for what changed between inputs, then train on newer rows."
            )
        return Meaning("none", "Nothing moved.")
    if live.hurt and not baseline.hurt:
        return Meaning("suspect", "The candidate's answers moved and the baseline's did not, on the same traffic: the judge decides.")
    if live.hurt and baseline.hurt:
        return Meaning(
            "retrain", "Both versions' answers moved alike: the world changed, and going back would not help. Train on newer rows."
        )
    if live.inputs_moved or baseline.inputs_moved:
        return Meaning("none", "The inputs moved and no answers suffer from it; after the rollout, train on newer rows.")
    return Meaning("none", "Only the baseline's answers moved, which the candidate replaces." if baseline.hurt else "Nothing moved.")
