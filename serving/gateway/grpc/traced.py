"""One call as telemetry sees it: whose trace it belongs to, and what became of it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc

from lastgood.serving.gateway.grpc.messages import SERVICE
from lastgood.serving.gateway.grpc.statuses import Reply
from lastgood.serving.gateway.pool.pending import Pending
from lastgood.serving.gateway.telemetry.context import Trace, read_traceparent, read_tracestate
from lastgood.serving.gateway.telemetry.telemetry import Telemetry

# As REST would have answered; what is not here is 500.
_STATUSES: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.CANCELLED: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class TracedCall:
    """A call of ModelInfer, from its metadata on."""

    __slots__ = ("_telemetry", "began", "method", "path", "pending", "trace", "tracestate")

    def __init__(self, metadata: Sequence[tuple[str, Any]], telemetry: Telemetry | None) -> None:
        """Begin; a trace is read from ``traceparent`` and ``tracestate`` as over REST."""
        parent = read_traceparent(_join(metadata, "traceparent"))
        self.trace = None if parent is None else Trace(parent)
        self.tracestate = b"" if parent is None else read_tracestate(_join(metadata, "tracestate"))
        self.method = "POST"
        self.path = f"/{SERVICE}/ModelInfer"
        self.began = 0.0
        self.pending: Pending | None = None
        self._telemetry = telemetry
        if telemetry is not None:
            telemetry.begin(self)

    def end(self, reply: Reply) -> Reply:
        """Tell telemetry of the answer, and give it with the span that the call became."""
        if self._telemetry is not None:
            status = _STATUSES.get(reply.code, 500)
            if sinks := self._telemetry.choose(self.trace, status):
                self._telemetry.keep(self, sinks, status, len(reply.body))
            self.pending = None
        if self.trace is None:
            return reply
        return reply._replace(metadata=(*reply.metadata, ("traceparent", self.trace.to_value().decode("ascii"))))


def _join(metadata: Sequence[tuple[str, Any]], name: str) -> bytes:
    """Give the values of a name as one, as HTTP joins headers."""
    return ",".join(value for own, value in metadata if own == name).encode("utf-8", "replace")
