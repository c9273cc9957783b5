"""What a version must show before it may be registered."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from lastgood.tables import read_table

Ratio = Annotated[float, Field(ge=0, le=1)]


class GateSettings(BaseModel):
    """The conditions of one model's gate; accuracies and agreements are ratios, 0 to 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accuracy_floor: Ratio | None = Field(default=None, description="of all evaluation rows; default: the commonest label's share")
    set_floors: dict[str, Ratio] = Field(default_factory=dict, description="accuracy by evaluation set")
    slice_floor: Ratio | None = Field(default=None, description="accuracy of every slice with 100 rows or more")
    slice_floors: dict[str, Ratio] = Field(default_factory=dict, description="accuracy by slice")
    required_slices: tuple[str, ...] = Field(default=(), description="slices that must have 100 rows or more")
    max_loss_vs_fp32: Ratio = Field(default=0.005, description="accuracy the compressed file may lose against its own float32 file")
    parity_floor: Ratio = Field(default=0.95, description="share of rows that get the same label from the compressed and the float32 file")
    max_loss_vs_live: Ratio | None = Field(default=0.01, description="margin of non-inferiority to the live version; null asks for none")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of the comparison with the live version, one-sided")
    max_p95_seconds: float | None = Field(default=None, gt=0, description="of one row at a time on this host")
    clean_tree: bool = Field(default=False, description="refuse a run whose files differed from its commit, or had none")
    max_bytes: int | None = Field(default=None, gt=0, description="size of the model's file")


def read_gate(own: GateSettings | Mapping[str, Any], overrides: Mapping[str, Any], *, model: str) -> GateSettings:
    """
    Join a pipeline's own gate with the project's overrides.

    Raises:
        ConfigurationError: A condition that is not known, or a value it cannot have.
    """
    values = own.model_dump(exclude_unset=True) if isinstance(own, GateSettings) else dict(own)
    return read_table(GateSettings, {**values, **overrides}, what=f"The gate of {model}")
