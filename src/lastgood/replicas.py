"""
How a version's replicas run: ``[serving]`` in ``lastgood.toml`` for all models, ``[serving.models.NAME]`` over it for one.

One table for the gateway, which starts them, and for whoever describes them. What a provider's short name stands for, and
which are there, is `lastgood.runtime`'s business: knowing that takes ONNX Runtime, which is slow to import.
"""

import os
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Provider = Literal["cpu", "openvino", "cuda", "tensorrt"]
MOST_REPLICAS = 64


def _check_replicas(value: object) -> object:
    if value == "per-core" or (type(value) is int and 1 <= value <= MOST_REPLICAS):
        return value
    raise ValueError(f"expected a number from 1 to {MOST_REPLICAS}, or 'per-core'")


class ReplicaSettings(BaseModel):
    """Everything that can be said of one model's replicas, and of the requests that wait for them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    replicas: Annotated[int | Literal["per-core"], BeforeValidator(_check_replicas)] = Field(
        default=1, description="processes for each version; 'per-core': as many as cores the gateway may use"
    )
    threads: int = Field(default=1, ge=1, le=256, description="threads of ONNX Runtime inside one operator")
    providers: tuple[Provider, ...] = Field(
        default=("cpu",), min_length=1, description="execution providers, best first: cpu, openvino, cuda, tensorrt"
    )
    memory_bytes: int | None = Field(
        default=None, ge=256 << 20, description="a replica that needs more ends; default: no limit, or docker.memory_bytes"
    )
    hang_seconds: float = Field(
        default=0.5, ge=0.2, le=10.0, description="a replica that holds a batch and gives no sign of life for this long is ended"
    )
    keep_loaded: bool = Field(default=False, description="never put to sleep, however long nobody asks; see loaded_bytes")

    batch_rows: int = Field(default=64, ge=1, le=65_536, description="rows that are joined into one batch at most")
    batch_bytes: int = Field(default=64 << 20, ge=1024, description="bytes of inputs that are joined into one batch at most")
    queue_requests: int = Field(default=4096, ge=1, le=1_000_000, description="requests that may wait; more are refused with 503")
    queue_bytes: int = Field(default=256 << 20, ge=1024, description="bytes of inputs that may wait; more are refused with 503")
    deadline_seconds: float = Field(
        default=10.0,
        ge=0.05,
        le=600.0,
        description="for an answer; what cannot be in time is refused, a batch that takes longer ends its replica",
    )

    @model_validator(mode="after")
    def _check_providers(self) -> Self:
        if len(set(self.providers)) < len(self.providers):
            raise ValueError(f"providers = {list(self.providers)} names one twice")
        return self

    def count(self) -> int:
        """Give the number of replicas; of cores, those of this process's affinity count."""
        return len(os.sched_getaffinity(0)) if self.replicas == "per-core" else self.replicas


class ServingSettings(ReplicaSettings):
    """The ``[serving]`` table: what holds for every model, and the models that differ."""

    spare: bool = Field(
        default=True, description="keep one process with its imports done, to become a replica at once where one died; takes 25 MB"
    )
    loaded_bytes: int | None = Field(
        default=None,
        ge=64 << 20,
        description="versions that nobody asks for sleep, least recently used first, so that the others' memory stays within this",
    )
    models: dict[str, ReplicaSettings] = Field(default_factory=dict, description="by model; what one does not set is as above")

    def of(self, model: str) -> ReplicaSettings:
        """Give one model's settings."""
        own = self.models.get(model, ReplicaSettings())
        common = self.model_dump(exclude={"spare", "loaded_bytes", "models"})
        return ReplicaSettings(**{**common, **own.model_dump(exclude_unset=True)})

    def list_providers(self) -> Iterator[tuple[Provider, ...]]:
        """Give each list of providers that is set somewhere, the common one first."""
        yield self.providers
        yield from (own.providers for own in self.models.values() if "providers" in own.model_fields_set)
