"""What of a model's requests is kept, for how long, and what its accuracy must not fall below."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lastgood.errors import ConfigurationError
from lastgood.monitoring.drift.settings import DriftSettings
from lastgood.tables import read_table

Ratio = Annotated[float, Field(ge=0, le=1)]


class PredictionSettings(BaseModel):
    """One model's prediction log, labels and drift; ``[models.NAME.predictions]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    log: bool = Field(default=True, description="whether requests and answers are written to the prediction log")
    sample: Ratio = Field(default=1.0, description="part of the batches that are kept; labels join only to what was kept")
    rows_per_second: float = Field(default=5_000.0, gt=0, description="rows looked at in a second at most; above it, a fair sample of them")
    input_bytes_per_second: float = Field(
        default=4 << 20, ge=0, description="bytes of inputs looked at in a second; above it, a fair sample of them, and all answers"
    )
    max_bytes: int = Field(default=1 << 30, ge=1 << 20, description="size of the model's log; the oldest files go first")
    max_days: float = Field(default=30.0, gt=0, le=3_650, description="age after which a file goes")
    redact: str | None = Field(
        default=None,
        pattern=r"^[\w.]+:\w+$",
        description='"module:function" of the project, which gets the columns before they are written',
    )
    leave_out: tuple[str, ...] = Field(default=(), description="inputs that are never written")
    drift: Literal[False] | dict[str, Any] = Field(
        default_factory=dict, description="how inputs and outputs are compared with the version's reference; false: not at all"
    )

    @model_validator(mode="after")
    def _drift_can_be(self) -> "PredictionSettings":
        try:
            self.how_drift  # noqa: B018 - it is checked when it is read
        except (ConfigurationError, TypeError) as exc:
            raise ValueError(str(exc)) from exc
        return self

    @property
    def how_drift(self) -> DriftSettings | None:
        """How drift is looked for; None if it is not."""
        return None if self.drift is False else DriftSettings.read(self.drift, source="drift")


def read_predictions(values: Mapping[str, Any], *, model: str, source: str) -> PredictionSettings:
    """
    Check a model's values.

    Raises:
        ConfigurationError: A name is unknown or a value out of range.
    """
    return read_table(PredictionSettings, values, what=f"models.{model}.predictions in {source}")
