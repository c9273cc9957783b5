"""What the observer's drift monitors say, and what it means: an event, a metric, and for a candidate alone a suspicion."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from lastgood.monitoring.drift.meaning import Conclusion, Meaning, Sighting, conclude
from lastgood.serving.gateway.rollouts.book import Book, Held
from lastgood.serving.gateway.rollouts.record import ACTOR, Note, SharedRecord
from lastgood.serving.observer.wire import Drifted
from lastgood.serving.rollout.table import EventKind, Pin, Rollout

log = structlog.get_logger()
Advance = Callable[[Rollout, EventKind, str], None]
_LEAST_PATIENCE = 200  # rows
_WAITING = Meaning("none", "The candidate's answers moved; the baseline has not answered enough since to be compared.")
NOTHING = Meaning("none", "Nothing moved.")


@dataclass(slots=True)
class Drift:
    """One model's: what was last told of each version, and what it means for those that serve."""

    versions: dict[int, Drifted] = field(default_factory=dict)
    meaning: Meaning = NOTHING
    patience: int | None = None  # rows of the baseline after which it is known not to move as the candidate did

    def main(self, held: Held) -> Drifted | None:
        """Give what is known of the version that gets most, the one its model's metrics are about."""
        pin = held.state.split.main
        return None if pin is None else self.versions.get(pin.number)


class Drifts:
    """All models'; a rule decides what their drift means, never a withdrawal."""

    def __init__(self, book: Book, record: SharedRecord) -> None:
        """Remember who serves, and where it is noted."""
        self._book = book
        self._record = record
        self.models: dict[str, Drift] = {}
        self.advance: Advance | None = None  # how a rollout is told that its candidate is suspect

    def hear(self, drifted: Drifted) -> None:
        """Take what a monitor says now, and act where it means something else than before."""
        held = self._book.held.get(drifted.model)
        if held is None:
            return
        own = self.models.setdefault(drifted.model, Drift())
        before = own.versions.get(drifted.version)
        own.versions[drifted.version] = drifted
        meaning = self._wait_for_baseline(held, own, conclude(*self._sight(held, own)))
        state, was = str(drifted.report["state"]), "quiet" if before is None else str(before.report["state"])
        if state != was and "raised" in {state, was}:
            self._note(held, drifted, meaning, raised=state == "raised")
        if meaning.conclusion != own.meaning.conclusion:
            log.warning("drift", model=drifted.model, meaning=meaning.conclusion, why=meaning.why)
            running = held.state.running
            if meaning.conclusion == "suspect" and running is not None and self.advance is not None:
                self.advance(running, EventKind.SUSPECTED, meaning.why)
        own.meaning = meaning

    def _wait_for_baseline(self, held: Held, own: Drift, meaning: Meaning) -> Meaning:
        """
        Believe that only the candidate's answers moved once the baseline has answered twice as many rows as the change took.

        Where the world changes, both monitors raise their alarms, and chance says which one is first.
        """
        if meaning.conclusion != "suspect":
            own.patience = None
            return meaning
        main, second = own.main(held), held.state.split.candidate or held.state.split.shadow
        rows = 0 if main is None else main.rows
        if own.patience is None:
            candidate = None if second is None else own.versions.get(second.number)
            took = 0 if candidate is None else int(candidate.report["since_rows"] or 0)
            own.patience = rows + max(2 * took, _LEAST_PATIENCE)
        return meaning if rows >= own.patience else _WAITING

    def forget(self, model: str, version: int) -> None:
        """Know nothing more of a version that is put away."""
        if model in self.models:
            self.models[model].versions.pop(version, None)

    def _sight(self, held: Held, own: Drift) -> tuple[Sighting, Sighting | None]:
        """Give what the version that is looked at sees, and what the one beside it does."""
        split = held.state.split
        second = split.candidate or split.shadow
        if second is None:
            return _read(own, split.main), None
        return _read(own, second), _read(own, split.main)

    def _note(self, held: Held, drifted: Drifted, meaning: Meaning, *, raised: bool) -> None:
        model = drifted.model
        moved = [own["feature"] for own in drifted.report["moved"]]
        digest = next((pin.digest for pin in _serving(held) if pin.number == drifted.version), None)
        payload: dict[str, Any] = {
            "version": drifted.version,
            "why": drifted.report["sentence"],
            "meaning": meaning.conclusion,
            "moved": moved,
        }
        note = Note("drift-found" if raised else "drift-gone", digest, ACTOR, payload)
        self._book.spawn(self._record.insist(lambda: self._record.append(model, [note]), what="drift", model=model))


def describe_drift(drift: Drift | None) -> dict[str, Any]:
    """Give a model's drift as JSON values."""
    if drift is None:
        return {"meaning": NOTHING.conclusion, "why": "No version has a reference, or nothing was asked yet.", "versions": []}
    versions = [{"version": version, **drifted.report} for version, drifted in sorted(drift.versions.items())]
    return {"meaning": drift.meaning.conclusion, "why": drift.meaning.why, "versions": versions}


def list_meanings(conclusion: Conclusion) -> Mapping[str, float]:
    """Give 1 for the meaning that holds and 0 for the others."""
    return {name: float(name == conclusion) for name in ("none", "retrain", "suspect")}


def _read(own: Drift, pin: Pin | None) -> Sighting:
    drifted = None if pin is None else own.versions.get(pin.number)
    return Sighting() if drifted is None else Sighting(*drifted.sighting)


def _serving(held: Held) -> list[Pin]:
    split = held.state.split
    return [pin for pin in (split.main, split.candidate, split.shadow) if pin is not None]
