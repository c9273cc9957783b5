"""
What a rollout's roles did, step by step: what the judge is given and a receipt keeps.

A new step begins whenever the candidate's share changes; what was assigned earlier is still charged to its own step.
Counts are written to a local file as they grow, so that a gateway that dies goes on judging where it stopped.
"""

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lastgood.errors import IntegrityError
from lastgood.monitoring.judge.paired import PairCounts, Pairs
from lastgood.monitoring.judge.trace import Mark, mark, read_marks, write_marks
from lastgood.monitoring.judge.verdict import NO_PAIRS, JudgePolicy, RoleCounts, StepCounts, Verdict, judge
from lastgood.serving.gateway.route import Tally


@dataclass(slots=True)
class RoleStep:
    """One role's tally in one step, with what the data plane does not count: deaths and the time its processes lived."""

    tally: Tally = field(default_factory=Tally)
    deaths: int = 0
    process_seconds: float = 0.0
    labelled: int = 0  # answers whose label came
    wrong: int = 0

    def freeze(self, unsettled: int = 0) -> RoleCounts:
        """Give the counts as the judge takes them."""
        seconds = round(self.process_seconds, 3)
        return RoleCounts(
            **self.tally.to_json(),
            deaths=self.deaths,
            process_seconds=seconds,
            unsettled=unsettled,
            labelled=self.labelled,
            wrong=self.wrong,
        )

    @classmethod
    def thaw(cls, value: dict[str, Any]) -> "RoleStep":
        """Read what was written of `freeze`."""
        tally = Tally.of(value)
        return cls(tally, value["deaths"], value["process_seconds"], value.get("labelled", 0), value.get("wrong", 0))


@dataclass(slots=True)
class Step:
    """One share's stretch of a rollout."""

    share: float
    candidate: RoleStep = field(default_factory=RoleStep)
    baseline: RoleStep = field(default_factory=RoleStep)
    shadow: bool = False  # the candidate gets copies: its labels count as pairs, and by nothing else
    began: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class RolloutCounts:
    """All steps of one rollout, and the limit above which a computation is slow, fixed when it starts."""

    rollout: str
    slow_limit_seconds: float = math.inf
    steps: list[Step] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    pairs: Pairs = NO_PAIRS  # of the time when the candidate was a shadow

    def add_labels(self, step: int, role: str, labelled: int, wrong: int) -> None:
        """Count labelled answers, however late they come, in the step in which they were given."""
        if 0 <= step < len(self.steps) and not self.steps[step].shadow and role in {"candidate", "baseline"}:
            own = self.steps[step].candidate if role == "candidate" else self.steps[step].baseline
            own.labelled += labelled
            own.wrong += wrong

    def add_pairs(self, found: Pairs) -> None:
        """Count requests that both versions answered."""
        before, new = self.pairs.labels, found.labels
        labels = PairCounts(before.lost + new.lost, before.won + new.won, before.tied + new.tied)
        self.pairs = Pairs(self.pairs.agreed + found.agreed, self.pairs.disagreed + found.disagreed, labels)

    def step(self, share: float, slot: str, *, shadow: bool = False) -> Step:
        """Give the current step, beginning one where the share or the ``slot`` (state and step number) is new."""
        if not self.steps or self.steps[-1].share != share or self._slot != slot:
            self.steps.append(Step(share, shadow=shadow))
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
        mark(self.marks, frozen, self.pairs)
        return judge(frozen, policy, has_baseline=has_baseline, pairs=self.pairs)

    def save(self, path: Path) -> None:
        """Write the counts, replacing the file at once; the last second may be lost with the process, no more."""
        limit = self.slow_limit_seconds if math.isfinite(self.slow_limit_seconds) else None
        steps = [
            {"share": step.share, "shadow": step.shadow, "candidate": _json(step.candidate), "baseline": _json(step.baseline)}
            for step in self.steps
        ]
        fresh = path.with_name(f"{path.name}.new")
        value = {"rollout": self.rollout, "slow_limit_seconds": limit, "steps": steps, "marks": write_marks(self.marks)}
        value["pairs"] = asdict(self.pairs)
        fresh.write_text(json.dumps(value), "utf-8")
        fresh.replace(path)

    @classmethod
    def load(cls, path: Path, rollout: str) -> "RolloutCounts":
        """Read the counts of this rollout, or begin; a file of another rollout, or one cut off, counts nothing."""
        try:
            value = json.loads(path.read_text("utf-8"))
            if value["rollout"] != rollout:
                return cls(rollout)
            steps = [
                Step(s["share"], RoleStep.thaw(s["candidate"]), RoleStep.thaw(s["baseline"]), s.get("shadow", False))
                for s in value["steps"]
            ]
            limit = value["slow_limit_seconds"]
            marks = read_marks(value.get("marks", {"names": [], "rows": []}))
            pairs = Pairs.from_json(value["pairs"]) if "pairs" in value else NO_PAIRS
            return cls(rollout, math.inf if limit is None else limit, steps, marks, pairs)
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError, IntegrityError):
            return cls(rollout)


def _json(role: RoleStep) -> dict[str, Any]:
    own = {name: getattr(role, name) for name in ("deaths", "process_seconds", "labelled", "wrong")}
    return {**role.tally.to_json(), **own}
