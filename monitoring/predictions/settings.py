"""What of a model's requests is kept, for how long, and what its accuracy must not fall below."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lastgood.errors import ConfigurationError

Ratio = Annotated[float, Field(ge=0, le=1)]


class PredictionSettings(BaseModel):
    """One model's prediction log, labels and drift; ``[models.NAME.predictions]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    log: bool = Field(default=True, description="whether requests and answers are written to the prediction log")
    sample: Ratio = Field(default=1.0, description="part of the batches that are kept; labels join only to what was kept")
    rows_per_second: float = Field(default=5_000.0, gt=0, description="rows looked at in a second at most; above it, a fair sample of them")
    max_bytes: int = Field(default=1 << 30, ge=1 << 20, description="size of the model's log; the oldest files go first")
    max_days: float = Field(default=30.0, gt=0, le=3_650, description="age after which a file goes")
    redact: str | None = Field(
        default=None,
        pattern=r"^[\w.]+:\w+$",
        description='"module:function" of the project, which gets the columns before they are written',
    )
    leave_out: tuple[str, ...] = Field(default=(), description="inputs that are never written")
    drift: bool = Field(default=True, description="whether inputs and outputs are compared with the version's reference")
    drift_run_length: float = Field(default=100_000.0, ge=1_000, description="requests between two false alarms, all features together")
    daily_rhythm: Literal["learn", "none"] = Field(
        default="learn",
        description='"learn" what is usual at each hour from the first day, where training rows had no times; "none": there is none',
    )


def read_predictions(values: Mapping[str, Any], *, model: str, source: str) -> PredictionSettings:
    """
    Check a model's values.

    Raises:
        ConfigurationError: A name is unknown or a value out of range.
    """
    try:
        return PredictionSettings.model_validate(dict(values))
    except ValidationError as exc:
        problems = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'predictions'} = {p.get('input')!r:.60}: {p['msg']}" for p in exc.errors())
        raise ConfigurationError(
            f"models.{model}.predictions in {source} is not valid: {problems}. Known: {', '.join(PredictionSettings.model_fields)}."
        ) from exc
