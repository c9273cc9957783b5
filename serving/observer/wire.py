"""
What gateway and observer tell each other, over one stream socket.

A frame is a u32 length, little-endian, and that many bytes of MessagePack. Arrays travel as their bytes.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec
import numpy as np

from lastgood.errors import IntegrityError

Array = np.ndarray[Any, np.dtype[Any]]
Outcome = Literal["ok", "invalid", "late"]  # returned; not finite; computed when nobody waited any more
_LENGTH: Final = struct.Struct("<I")
FRAME_BYTES: Final = 64 << 20  # no frame is longer


class Tensor(msgspec.Struct, array_like=True):
    """One input or output of a batch: "row …", row-major."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def to_array(self) -> Array:
        """Give a view of the bytes."""
        return np.frombuffer(self.data, np.dtype(self.dtype)).reshape(self.shape)


class Watched(msgspec.Struct, array_like=True, tag="watched"):
    """A model that is observed from now on, and how; told again to an observer that takes the place of a dead one."""

    model: str
    settings: dict[str, Any]  # of `lastgood.monitoring.predictions.settings.PredictionSettings`


class Profiled(msgspec.Struct, array_like=True, tag="profiled"):
    """The reference that a version's inputs and outputs are compared with."""

    model: str
    version: int
    profile: bytes


class Forgotten(msgspec.Struct, array_like=True, tag="forgotten"):
    """A version that is up no more: what is known of its drift is kept on the disk, for when it comes back."""

    model: str
    version: int


class Scope(msgspec.Struct, array_like=True, frozen=True):
    """On whose behalf requests were answered: the role, and the step (from 0) of the rollout, "" without one."""

    role: str
    rollout: str
    step: int


class Asked(msgspec.Struct, array_like=True, tag="asked"):
    """One batch with its answers; lists have an element for each request, in the order of the rows."""

    model: str
    version: int
    time: float  # Unix, seconds
    ids: list[str]
    serials: list[int]  # unlike any other request's where a shadow has a copy, else 0
    rows: list[int]
    scopes: list[Scope]  # the different ones
    scope: list[int]  # each request's
    traffic: list[str]
    slices: list[str]
    outcomes: list[Outcome]
    inputs: list[Tensor] | None  # without those of texts; None where they are not shown: then the batch is not logged
    outputs: list[Tensor]


class Labelled(msgspec.Struct, array_like=True, tag="labelled"):
    """Labels by request id."""

    model: str
    time: float
    ids: list[str]
    labels: list[int]


ToObserver = Watched | Profiled | Forgotten | Asked | Labelled


class Counted(msgspec.Struct, array_like=True):
    """Labelled answers of a version since the last news, and how many were right."""

    model: str
    version: int
    role: str
    slice: str
    rollout: str
    step: int
    labelled: int
    correct: int


class Paired(msgspec.Struct, array_like=True):
    """Requests that a shadow answered too, since the last news."""

    model: str
    rollout: str
    agreed: int
    disagreed: int
    lost: int
    won: int
    tied: int


class Drifted(msgspec.Struct, array_like=True):
    """How far a version's requests are from its reference now."""

    model: str
    version: int
    log_evidence: float
    log_threshold: float
    rows: int
    sighting: tuple[bool, bool, bool]  # inputs moved, outputs moved, estimated accuracy fell
    report: dict[str, Any]  # of `lastgood.monitoring.drift.report.DriftReport`


class Kept(msgspec.Struct, array_like=True):
    """The state of a model's log and labels: totals since the observer began."""

    model: str
    rows: int
    failed: int
    unknown: int  # labels whose request is not known
    repeated: int
    problem: str = ""


class News(msgspec.Struct, array_like=True, tag="news"):
    """What the observer found."""

    counted: list[Counted] = []
    paired: list[Paired] = []
    drifted: list[Drifted] = []
    kept: list[Kept] = []


def _to_plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be told to the other side")


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_plain)


def pack(message: msgspec.Struct) -> bytes:
    """Give a message's frame."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts what comes out of a socket into frames."""

    def __init__(self) -> None:
        """Begin at a frame's begin."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        Give every frame that is whole now.

        Raises:
            IntegrityError: The other side is broken: a frame says it is longer than any is.
        """
        self._buffer += data
        position = 0
        while len(self._buffer) - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, position)
            if length > FRAME_BYTES:
                raise IntegrityError(f"A frame between gateway and observer says it has {length} bytes; {FRAME_BYTES} at most.")
            end = position + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            yield bytes(memoryview(self._buffer)[position + _LENGTH.size : end])
            position = end
        del self._buffer[:position]
