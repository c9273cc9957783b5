"""When and how a model is trained again; ``[models.NAME.update]``."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lastgood.settings import PROJECT_FILE, Settings
from lastgood.tables import read_table

UpdatePolicy = Literal["full", "incremental"]
Ratio = Annotated[float, Field(ge=0, le=1)]
_CRON_FIELD = re.compile(r"[\w*/,?#-]+")


class UpdateSettings(BaseModel):
    """
    One model's update policy.

    How long a withdrawn commit and data are not tried again is the rollout's ``cooldown_seconds``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: UpdatePolicy = Field(default="full", description="all rows from the start, or new ones from the live version's weights on")
    on_drift: bool = Field(default=False, description="whether reported drift starts an update")
    schedule: str | None = Field(default=None, description="cron, five fields, UTC")
    with_log: bool = Field(default=False, description="whether a full update also trains on the labelled rows of the prediction log")
    min_rows: int = Field(default=200, ge=1, description="newly labelled rows without which an incremental update is not worth it")
    max_rows: int = Field(default=50_000, ge=1, description="rows of the log that are used at most, the newest")
    label_days: float = Field(default=7.0, gt=0, description="how long after a request its label may come")
    replay_ratio: Ratio = Field(default=0.2, description="part of load()'s training rows that is mixed in, against forgetting")
    epochs: int = Field(default=2, ge=0, description="passes over the rows of an incremental update")
    parameters: dict[str, Any] = Field(default_factory=dict, description="of the pipeline, for an incremental update")

    @field_validator("schedule")
    @classmethod
    def _is_cron(cls, value: str | None) -> str | None:
        if value is None:
            return None
        fields = value.split()
        if len(fields) != 5 or not all(_CRON_FIELD.fullmatch(field) for field in fields):
            raise ValueError('expected five fields of cron, such as "0 3 * * *"')
        _check_cron(value)
        return value

    @field_validator("max_rows")
    @classmethod
    def _has_room(cls, value: int, info: Any) -> int:
        least = info.data.get("min_rows", 1)
        if value < least:
            raise ValueError(f"expected min_rows ({least}) or more")
        return value


def _check_cron(schedule: str) -> None:
    """Refuse fields that no clock shows; only where what reads schedules is installed, for without it nothing runs by them."""
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        return
    try:
        next(CronSim(schedule, datetime.now(UTC)))
    except (CronSimError, StopIteration) as exc:
        raise ValueError(f"no time of cron's that comes: {exc}") from exc


def read_update(settings: Settings, model: str) -> UpdateSettings:
    """
    Give a model's update policy.

    Raises:
        ConfigurationError: A name is unknown or a value out of range.
    """
    own = settings.models.get(model)
    return check_update(own.update if own else {}, model=model)


def check_update(values: Mapping[str, Any], *, model: str) -> UpdateSettings:
    """
    Check a model's values.

    Raises:
        ConfigurationError: A name is unknown or a value out of range.
    """
    return read_table(UpdateSettings, values, what=f"models.{model}.update in {PROJECT_FILE}")
