"""How a rollout proceeds: steps, soak, and what the judge tolerates; from the pipeline's settings, checked here."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lastgood.monitoring.judge.verdict import JudgePolicy
from lastgood.tables import read_table

Share = Annotated[float, Field(gt=0, lt=1)]


class RolloutPolicy(BaseModel):
    """
    One model's rollout policy.

    Requests count only where they carry information: those the candidate answered. Silence promotes nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: tuple[Share, ...] = Field(default=(0.1, 0.5), min_length=1, max_length=20, description="canary shares, rising")
    step_requests: int = Field(default=200, ge=1, description="requests the candidate answers before the next step")
    step_seconds: float = Field(default=10.0, ge=0, description="and the time a step lasts at least")
    shadow_share: float = Field(default=1.0, gt=0, le=1, description="part of the requests that a shadow gets copies of")
    shadow_requests: int = Field(default=200, ge=1, description="copies a shadow answers before the first step")
    shadow_seconds: float = Field(default=10.0, ge=0, description="and the time it lasts at least")
    shadow_labels: int = Field(default=0, ge=0, description="labelled pairs it needs, too; labels come as feedback")
    soak_share: Share = Field(default=0.9, description="the candidate's share while soaking; the baseline keeps the rest")
    soak_requests: int = Field(default=500, ge=1, description="requests the candidate answers before it is stable")
    soak_seconds: float = Field(default=600.0, ge=0, description="and the time soaking lasts at least")
    alpha: float = Field(default=0.001, gt=0, le=0.1, description="probability that a tolerable candidate is called bad")
    tolerated_ratio: float = Field(default=1.25, ge=1, le=10, description="candidate's rate of bad events over the baseline's")
    tolerated_bad_ratio: float = Field(default=0.05, gt=0, lt=0.5, description="bad answers of a version with no baseline")
    tolerated_loss: float = Field(default=0.005, ge=0, lt=1, description="accuracy a shadow may lose on labelled pairs")
    accepted_disagreement: float | None = Field(
        default=None, gt=0, lt=1, description="part of the requests on which a shadow may answer otherwise; default: what the gate measured"
    )
    accuracy_floor: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="part of the labelled answers that must be right, else an alert asks for a comparison; default: the gate's",
    )
    early_success: bool = Field(default=False, description="whether a step ends early once the candidate is shown to be no worse")
    success_alpha: float = Field(default=0.05, gt=0, le=0.5, description="probability that this is shown of one that is worse")
    slow_factor: float = Field(default=4.0, gt=1, description="times the baseline's p99 compute time that counts as slow")
    cooldown_seconds: float = Field(
        default=21_600.0, ge=0, description="after an automatic withdrawal, the same commit and data are not released automatically"
    )
    freeze_after: int = Field(default=3, ge=1, description="automatic withdrawals within the window that freeze the model")
    freeze_window_seconds: float = Field(default=3600.0, gt=0, description="and that window")

    @model_validator(mode="after")
    def _steps_rise(self) -> "RolloutPolicy":
        if list(self.steps) != sorted(set(self.steps)) or self.steps[-1] > self.soak_share:
            raise ValueError(f"steps must rise and end at or below soak_share {self.soak_share}; got {list(self.steps)}")
        return self

    @property
    def judge(self) -> JudgePolicy:
        """What the judge is told."""
        return JudgePolicy(
            alpha=self.alpha,
            tolerated_ratio=self.tolerated_ratio,
            tolerated_bad_ratio=self.tolerated_bad_ratio,
            tolerated_loss=self.tolerated_loss,
            accepted_disagreement=self.accepted_disagreement,
            success_alpha=self.success_alpha,
        )


def read_policy(values: dict[str, Any], *, source: str) -> RolloutPolicy:
    """
    Check a policy's values.

    Args:
        values: By field name; what is missing takes its default.
        source: Where they stand, for the message.

    Raises:
        ConfigurationError: A name is unknown or a value out of range.
    """
    return read_table(RolloutPolicy, values, what=f"The rollout policy in {source}")
