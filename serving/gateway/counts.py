"""
What a rollout's roles did, step by step: what the judge is given and a receipt keeps.

A new step begins whenever the candidate's share changes; what was assigned earlier is still charged to its own step.
Counts are written to a local file as they grow, so that a gateway that dies goes on judging where it stopped.
"""

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lastgood.errors import IntegrityError
from lastgood.monitoring.judge.trace import Mark, mark, read_marks, write_marks
from lastgood.monitoring.judge.verdict import JudgePolicy, RoleCounts, StepCounts, Verdict, judge
from lastgood.serving.gateway.route import Tally


@dataclass(slots=True)
class RoleStep:
    """One role's tally in one step, with what the data plane does not count: deaths and the time its processes lived."""

    tally: Tally = field(default_factory=Tally)
    deaths: int = 0
    process_seconds: float = 0.0

    def freeze(self, unsettled: int = 0) -> RoleCounts:
        """Give the counts as the judge takes them."""
        seconds = round(self.process_seconds, 3)
        return RoleCounts(**self.tally.to_json(), deaths=self.deaths, process_seconds=seconds, unsettled=unsettled)

    @classmethod
    def thaw(cls, value: dict[str, Any]) -> "RoleStep":
        """Read what was written of `freeze`."""
        tally = Tally(**{name: value[name] for name in Tally.__slots__})
        return cls(tally, value["deaths"], value["process_seconds"])


@dataclass(slots=True)
class Step:
    """One share's stretch of a rollout."""

    share: float
    candidate: RoleStep = field(default_factory=RoleStep)
    baseline: RoleStep = field(default_factory=RoleStep)
    began: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class RolloutCounts:
    """All steps of one rollout, and the limit above which a computation is slow, fixed when it starts."""

    rollout: str
    slow_limit_seconds: float = math.inf
    steps: list[Step] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def step(self, share: float, slot: str) -> Step:
        """Give the current step, beginning one where the share or the ``slot`` (state and step number) is new."""
        if not self.steps or self.steps[-1].share != share or self._slot != slot:
            self.steps.append(Step(share))
            self._slot = slot
        return self.steps[-1]

    _slot: str = ""

    def freeze(self, unsettled: int = 0) -> list[StepCounts]:
        """
        Give the counts as the judge takes them.

        Args:
            unsettled: The baseline's batches that are being computed; they are taken to be the last step's.
        """
        last = len(self.steps) - 1
        return [
            StepCounts(step.share, step.candidate.freeze(), step.baseline.freeze(unsettled if index == last else 0))
            for index, step in enumerate(self.steps)
        ]

    def verdict(self, policy: JudgePolicy, *, has_baseline: bool, unsettled: int = 0) -> Verdict:
        """Judge what was counted so far, and mark it in the trace where something bad was added."""
        frozen = self.freeze(unsettled)
        mark(self.marks, frozen)
        return judge(frozen, policy, has_baseline=has_baseline)

    def save(self, path: Path) -> None:
        """Write the counts, replacing the file at once; the last second may be lost with the process, no more."""
        limit = self.slow_limit_seconds if math.isfinite(self.slow_limit_seconds) else None
        steps = [{"share": step.share, "candidate": _json(step.candidate), "baseline": _json(step.baseline)} for step in self.steps]
        fresh = path.with_name(f"{path.name}.new")
        value = {"rollout": self.rollout, "slow_limit_seconds": limit, "steps": steps, "marks": write_marks(self.marks)}
        fresh.write_text(json.dumps(value), "utf-8")
        fresh.replace(path)

    @classmethod
    def load(cls, path: Path, rollout: str) -> "RolloutCounts":
        """Read the counts of this rollout, or begin; a file of another rollout, or one cut off, counts nothing."""
        try:
            value = json.loads(path.read_text("utf-8"))
            if value["rollout"] != rollout:
                return cls(rollout)
            steps = [Step(s["share"], RoleStep.thaw(s["candidate"]), RoleStep.thaw(s["baseline"])) for s in value["steps"]]
            limit = value["slow_limit_seconds"]
            return cls(rollout, math.inf if limit is None else limit, steps, read_marks(value.get("marks", {"names": [], "rows": []})))
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError, IntegrityError):
            return cls(rollout)


def _json(role: RoleStep) -> dict[str, Any]:
    return {**role.tally.to_json(), "deaths": role.deaths, "process_seconds": role.process_seconds}
