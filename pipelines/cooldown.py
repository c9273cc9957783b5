"""What was withdrawn is not tried again for a while: neither the same commit nor the same data would be any better."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from lastgood.pipelines.deploy import find_policy
from lastgood.registry.errors import VersionNotFoundError
from lastgood.registry.registry import Registry
from lastgood.settings import Settings


@dataclass(frozen=True, slots=True)
class Cooldown:
    """A version of the same commit and data that was withdrawn, when, and until when nothing starts by itself."""

    version: str
    withdrawn: datetime
    until: datetime
    why: str

    def __str__(self) -> str:
        """Say it in a sentence."""
        return (
            f"{self.version}, of the same commit and data, was withdrawn at {self.withdrawn.isoformat(timespec='seconds')} ({self.why}); "
            f"until {self.until.isoformat(timespec='seconds')} it is not tried again by itself."
        )


def find_cooldown(settings: Settings, model: str, commit: str | None, data: str | None, now: datetime) -> Cooldown | None:
    """
    Give the withdrawal that keeps a commit and data from being released by themselves; None where there is none.

    Args:
        settings: The project.
        model: Its name.
        commit: Of the run; None outside git, which is compared like any other.
        data: The fingerprint of what it trains on.
        now: Aware.
    """
    seconds = find_policy(settings, model).cooldown_seconds
    found = None
    with Registry.open(settings, writer="cli") as registry:
        if model not in registry.models():
            return None
        tombstones = registry.tombstones()
        numbers = {own.digest: str(own) for own in registry.versions(model)}
        for event in registry.events(model=model, newest_first=True):
            if event.kind != "withdrawn" or event.digest is None or event.digest not in tombstones:
                continue  # one that did not start, or that a person kept or lifted, was not found bad
            until = event.time + timedelta(seconds=seconds)
            if until <= now:
                break  # older ones are over too
            try:
                record = registry.record(event.digest, model=model)
            except VersionNotFoundError:
                continue
            if (record.commit, record.data) == (commit, data):
                found = Cooldown(numbers.get(event.digest, event.digest), event.time, until, str(event.payload.get("why", "")))
                break
    return found
