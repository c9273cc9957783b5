"""
Whether a version would be made of what has just failed: the same commit and the same data as one that was taken out by itself.

Training that is not quite repeatable gives another digest, so the tombstone alone does not keep a loop from releasing the same
model again and again. A tombstone that a person lifted counts no more, and neither does one that a person made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from lastgood.registry.content import Record
from lastgood.registry.rows import Tombstone

AUTOMATIC: Final = frozenset({"judge", "alert"})


@dataclass(frozen=True, slots=True)
class Cooldown:
    """A withdrawal that a model is cooling down from."""

    model: str
    number: int  # of the version that was taken out
    digest: str
    cause: str
    why: str
    withdrawn: datetime
    until: datetime

    def __str__(self) -> str:
        """Say it in a sentence."""
        began, until = (time.isoformat(timespec="seconds") for time in (self.withdrawn, self.until))
        return (
            f"{self.model}@{self.number}, made of the same commit and data, was taken out at {began} "
            f"({self.cause}: {self.why.rstrip('.')}). "
            f"Until {until} the same is not released automatically."
        )


def find_cooldown(
    tombstones: Mapping[str, Tombstone],
    read_record: Callable[[str], Record],
    find_number: Callable[[str], int],
    model: str,
    *,
    commit: str | None,
    data: str | None,
    seconds: float,
    now: datetime,
) -> Cooldown | None:
    """
    Give the newest automatic withdrawal of the same commit and data that is not longer ago than ``seconds``.

    Args:
        tombstones: Those that nobody lifted, by digest.
        read_record: Gives what was said of a digest when it was registered.
        find_number: Gives the number the model's version of a digest has.
        model: Whose withdrawals count.
        commit: Of the version that is to be made; None outside git, where the same data is the same.
        data: Fingerprint of its data set; None where it is not known, and then nothing is the same.
        seconds: How long a model cools down.
        now: An aware time.
    """
    if data is None:
        return None
    recent = [
        own
        for own in tombstones.values()
        if own.model == model and own.cause in AUTOMATIC and own.time <= now < own.time + timedelta(seconds=seconds)
    ]
    for own in sorted(recent, key=lambda tombstone: tombstone.time, reverse=True):
        record = read_record(own.digest)
        if (record.commit, record.data) == (commit, data):
            return Cooldown(model, find_number(own.digest), own.digest, own.cause, own.why, own.time, own.time + timedelta(seconds=seconds))
    return None
