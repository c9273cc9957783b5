"""What a call ends with: its status, and the metadata behind it."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import grpc

from lastgood.errors import ConflictError, LastgoodError, NotFoundError, RefusedError, TimedOutError, UnavailableError, UsageError
from lastgood.serving.gateway.errors import BusyError
from lastgood.serving.gateway.pool.pending import Reason
from lastgood.serving.gateway.route import Lane

Metadata = tuple[tuple[str, str], ...]
_DETAILS_LIMIT: Final = 1000  # characters; clients refuse a status whose headers are longer than some KiB

# The most special class first; what is not here is a fault of this side.
CODES: Final[tuple[tuple[type[LastgoodError], grpc.StatusCode], ...]] = (
    (TimedOutError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (ConflictError, grpc.StatusCode.FAILED_PRECONDITION),
    (RefusedError, grpc.StatusCode.FAILED_PRECONDITION),
    (UsageError, grpc.StatusCode.INVALID_ARGUMENT),
)
REASONS: Final[Mapping[Reason, grpc.StatusCode]] = {
    "failed": grpc.StatusCode.INTERNAL,
    "invalid": grpc.StatusCode.INTERNAL,
    "unfit": grpc.StatusCode.INVALID_ARGUMENT,
    "timeout": grpc.StatusCode.DEADLINE_EXCEEDED,
    "died": grpc.StatusCode.UNAVAILABLE,
    "stopped": grpc.StatusCode.UNAVAILABLE,
    "broken": grpc.StatusCode.INTERNAL,
    "disconnected": grpc.StatusCode.CANCELLED,  # nobody reads it
}


class Reply(NamedTuple):
    """How a call ends: with a message, or with why there is none."""

    metadata: Metadata = ()
    body: bytes = b""  # a message as it goes over the wire
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""


def refuse(code: grpc.StatusCode, text: str, metadata: Metadata = (), retry_seconds: int = 1) -> Reply:
    """Give the end of a call that has no message; what may pass is to be tried again after some seconds."""
    if len(text) > _DETAILS_LIMIT:
        text = f"{text[: _DETAILS_LIMIT - 1]}…"
    if code == grpc.StatusCode.UNAVAILABLE:
        metadata = (*metadata, ("retry-after", str(retry_seconds)))
    return Reply(metadata, b"", code, text)


def explain(error: LastgoodError) -> Reply:
    """Give the end of a call for an error."""
    code = next((code for kind, code in CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    return refuse(code, str(error), retry_seconds=error.retry_seconds if isinstance(error, BusyError) else 1)


def name_origin(lane: Lane) -> Metadata:
    """Give the metadata that says which version answered, in which role."""
    return (("x-lastgood-version", str(lane.pool.number)), ("x-lastgood-role", lane.role))
