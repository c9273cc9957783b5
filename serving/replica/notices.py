"""
What gateway and replica say to each other: one SEQPACKET message each, so that none is ever half read.

============  ==================  =========================================================================
to replica    START               JSON {"folder", "digest", "threads", "providers", "memory_bytes", "niceness"}; file
                                  descriptors: the content's JSON, the heart, then the slots
to replica    RUN                 slot, number of the batch, bytes used in the slot
to replica    END                 nothing more will come: exit
to gateway    READY               JSON {"report", "provider"}: it verified, warmed up, and gave the golden answers
to gateway    REFUSED             JSON {"code", "message"}: it never will, and exits
to gateway    DONE                slot, number, bytes used, seconds computed, and whether row flags follow the outputs
to gateway    FAILED              slot, number, and what the model raised, as UTF-8
============  ==================  =========================================================================
"""

import struct
from typing import Final

START: Final = 1
RUN: Final = 2
READY: Final = 3
REFUSED: Final = 4
DONE: Final = 5
FAILED: Final = 6
END: Final = 7

# kind, slot, flagged, zero, number of the batch, bytes used in the slot, compute seconds
_NOTICE = struct.Struct("<BBBxIQd")
_FAILURE = struct.Struct("<BBxxI")
MESSAGE_BYTES: Final = 64 * 1024  # longest message
_TEXT_BYTES: Final = 4096


def pack_run(slot: int, number: int, used: int) -> bytes:
    """Tell the replica to run what is in a slot."""
    return _NOTICE.pack(RUN, slot, 0, number, used, 0.0)


def pack_done(slot: int, number: int, used: int, seconds: float, *, flagged: bool) -> bytes:
    """Tell the gateway that a slot holds the answer."""
    return _NOTICE.pack(DONE, slot, flagged, number, used, seconds)


def unpack(message: bytes) -> tuple[int, int, int, int, float, bool]:
    """
    Read a RUN or DONE: kind, slot, number, bytes used, compute seconds, flagged.

    Raises:
        struct.error: It is of another length.
    """
    kind, slot, flagged, number, used, seconds = _NOTICE.unpack(message)
    return kind, slot, number, used, seconds, bool(flagged)


def pack_failed(slot: int, number: int, text: str) -> bytes:
    """Tell the gateway what the model raised; long texts are cut."""
    return _FAILURE.pack(FAILED, slot, number) + text.encode("utf-8", "replace")[:_TEXT_BYTES]


def unpack_failed(message: bytes) -> tuple[int, int, str]:
    """
    Read a FAILED: slot, number, text.

    Raises:
        struct.error: It is too short.
    """
    _, slot, number = _FAILURE.unpack_from(message)
    return slot, number, message[_FAILURE.size :].decode("utf-8", "replace")
