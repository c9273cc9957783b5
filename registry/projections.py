"""The tables as the events alone imply them: what `verify` compares the stored ones with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lastgood.registry.content import FileEntry
from lastgood.registry.events import Event, encode_payload, format_time
from lastgood.registry.weights import read_weights

Rows = dict[tuple[str, ...], Mapping[str, Any]]


@dataclass(slots=True)
class Projections:
    """Rows by primary key, of each table that is derived from events."""

    versions: Rows = field(default_factory=dict)
    aliases: Rows = field(default_factory=dict)
    tombstones: Rows = field(default_factory=dict)
    routes: Rows = field(default_factory=dict)
    weights: dict[tuple[str, str], FileEntry] = field(default_factory=dict)  # in no table: by digest and SHA-256

    def apply(self, event: Event) -> None:
        """
        Change the rows as the event says; an event of another kind changes none.

        Raises:
            KeyError: The payload lacks a field that its kind always has.
        """
        handler = {
            "registered": self._register,
            "alias-moved": self._move_alias,
            "tombstoned": self._tombstone,
            "lifted": self._lift,
            "route": self._route,
        }.get(event.kind)
        if handler is not None:
            handler(event)

    def _register(self, event: Event) -> None:
        model, number = str(event.model), event.payload["number"]
        self.versions[model, str(number)] = {
            "model": model,
            "number": number,
            "digest": event.digest,
            "created": format_time(event.time),
            "created_by": event.actor,
            "position": event.position,
        }
        if (weights := read_weights(event.payload)) is not None:
            self.weights[str(event.digest), weights.sha256] = weights

    def _move_alias(self, event: Event) -> None:
        model, name = str(event.model), event.payload["name"]
        self.aliases.pop((model, name), None)
        if event.digest is not None:
            self.aliases[model, name] = {
                "model": model,
                "name": name,
                "digest": event.digest,
                "number": event.payload["number"],
                "since": format_time(event.time),
                "position": event.position,
            }

    def _tombstone(self, event: Event) -> None:
        self.tombstones[str(event.digest),] = {
            "digest": event.digest,
            "id": event.hash,
            "model": event.model,
            "cause": event.payload["cause"],
            "why": event.payload["why"],
            "actor": event.actor,
            "time": format_time(event.time),
        }

    def _lift(self, event: Event) -> None:
        self.tombstones.pop((str(event.digest),), None)

    def _route(self, event: Event) -> None:
        model = str(event.model)
        body = encode_payload(event.payload["body"])
        self.routes[model,] = {"model": model, "generation": event.payload["generation"], "body": body}


def derive(events: Iterable[Event]) -> Projections:
    """Give the rows that events, in order, imply."""
    projections = Projections()
    for event in events:
        projections.apply(event)
    return projections
