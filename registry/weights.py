"""
The weights that a version was trained to, kept beside its content: serving needs none of them, an incremental update does.

Which file they are stands in the payload of the event that registered the version.
"""

from collections.abc import Mapping
from typing import Any, Final

from lastgood.registry.content import FileEntry

WEIGHTS: Final = ".weights"  # in the place of a path: no file of a version, but kept as one
_KEY: Final = "weights"


def write_weights(entry: FileEntry) -> dict[str, Any]:
    """Give what an event's payload says of weights."""
    return {_KEY: {"sha256": entry.sha256, "size": entry.size}}


def read_weights(payload: Mapping[str, Any]) -> FileEntry | None:
    """
    Give the weights that the payload of an event says were kept, None where it says of none.

    Raises:
        KeyError, TypeError, ValueError: It says so otherwise than `write_weights`.
    """
    told = payload.get(_KEY)
    return None if told is None else FileEntry(WEIGHTS, int(told["size"]), bytes.fromhex(told["sha256"]).hex())
