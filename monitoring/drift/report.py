"""What a monitor has to say: an alarm or none, since when, and what moved by how much in which direction."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lastgood.monitoring.drift.estimate import AccuracyEstimate

State = Literal["quiet", "raised", "recovered"]


@dataclass(frozen=True, slots=True)
class Moved:
    """
    A feature that moved.

    Attributes:
        feature: Its name, such as ``in/payment[3]`` or ``out/probabilities answers 1``.
        direction: Where its mean went ("up", "down"), or what its spread became ("wider", "narrower").
        sigma: By how many of the reference's sigma the mean is off since then; below 0 is down.
        spread: How many times as wide as the reference it is since then.
        rows: Rows since the change, to the nearest block.
        evidence: Of this feature alone, over the run length.
    """

    feature: str
    direction: str
    sigma: float
    spread: float
    rows: int
    evidence: float

    def __str__(self) -> str:
        """Say it in a few words."""
        if self.direction in {"up", "down"}:
            return f"{self.feature} {self.direction} by {abs(self.sigma):.2g} sigma"
        return f"{self.feature} {self.direction}, {self.spread:.2g} times as wide"


@dataclass(frozen=True, slots=True)
class DriftReport:
    """
    What a monitor found so far.

    Attributes:
        state: "raised" from the alarm until the drift is gone, "recovered" from then until the next alarm.
        evidence: Of the family, over the run length: 1 or more raises the alarm.
        run_length: Rows between false alarms, on average at least, for all features and outputs together.
        rows: All rows that were compared.
        learning: Whether the daily rhythm is not known yet, and so only large shifts are seen.
        acknowledged: Whether a person knows of the present alarm.
        since: Unix seconds when the strongest change began, as far as can be told; None without an alarm.
        since_rows: How many rows ago that was, to the nearest block.
        raised_at: Unix seconds of the last alarm; None if there was none.
        recovered_at: Unix seconds when the last alarm ended; None if there was none or it lasts.
        moved: The features that moved, the clearest first; empty without an alarm.
        accuracy: Estimated without labels; None where no output has classes.
    """

    state: State
    evidence: float
    run_length: float
    rows: int
    learning: bool
    acknowledged: bool
    since: float | None
    since_rows: int | None
    raised_at: float | None
    recovered_at: float | None
    moved: tuple[Moved, ...]
    accuracy: AccuracyEstimate | None

    @property
    def alarm(self) -> bool:
        """Whether the alarm is raised now."""
        return self.state == "raised"

    @property
    def inputs_moved(self) -> bool:
        """Whether an input is among what moved."""
        return any(own.feature.startswith("in/") for own in self.moved)

    @property
    def outputs_moved(self) -> bool:
        """Whether an output is among what moved."""
        return any(own.feature.startswith("out/") for own in self.moved)

    @property
    def sentence(self) -> str:
        """Say it in a sentence or two."""
        if self.alarm:
            names = "; ".join(map(str, self.moved[:5])) + (f"; and {len(self.moved) - 5} more" if len(self.moved) > 5 else "")
            text = f"Drift for about {self.since_rows or 0:,} rows: {names}."
        else:
            text = f"No drift in {self.rows:,} rows." if self.state == "quiet" else f"The drift is gone; {self.rows:,} rows were compared."
        if self.learning:
            text += " The daily rhythm is not known yet, so only large shifts are seen."
        if self.accuracy is not None:
            own = self.accuracy
            text += f" Estimated accuracy {own.accuracy:.1%} ({own.low:.1%} to {own.high:.1%}); tested {own.reference:.1%}."
        return text

    def to_json(self) -> dict[str, Any]:
        """Give every field, the sentence, and the evidence as a finite number."""
        return {**asdict(self), "evidence": min(self.evidence, math.nextafter(math.inf, 0)), "sentence": self.sentence}
