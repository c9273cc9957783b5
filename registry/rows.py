"""What the registry answers with: versions, aliases, tombstones, routes, and who held an alias when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lastgood.registry.events import Event

Cause = Literal["judge", "alert", "person"]


@dataclass(frozen=True, slots=True)
class Version:
    """One number of a model; ``new`` is true only in the answer to the registration that made it."""

    model: str
    number: int
    digest: str
    created: datetime
    created_by: str
    new: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        """Give the reference a person would write."""
        return f"{self.model}@{self.number}"


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that points to a version of a model, and since when."""

    name: str
    digest: str
    number: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A digest taken out as bad; ``id`` is the hash of the event that did it."""

    digest: str
    id: str
    model: str
    cause: str
    why: str
    actor: str
    time: datetime


@dataclass(frozen=True, slots=True)
class StoredRoute:
    """A model's row of the route table; what the body means is the gateway's business."""

    model: str
    generation: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """A version that held an alias at some time."""

    version: Version
    since: datetime
    event: Event  # which put it there
    tombstoned: Event | None  # the first one that took the digest out as bad afterwards


@dataclass(frozen=True, slots=True)
class Moment:
    """Who was live and who was stable at a time; None where the alias was not set."""

    model: str
    when: datetime
    live: Held | None
    stable: Held | None


@dataclass(frozen=True, slots=True)
class Notes:
    """What people said about a digest after it was registered."""

    description: str | None
    tags: tuple[str, ...]
