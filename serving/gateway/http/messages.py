"""Requests and responses as the server's handlers see them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lastgood.serving.gateway.telemetry.context import Trace

if TYPE_CHECKING:
    from lastgood.serving.gateway.http.connection import Connection
    from lastgood.serving.gateway.pool.pending import Pending

JSON: Final = b"application/json"
NO_PARAMS: Final[Mapping[str, str]] = MappingProxyType({})
STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Response:
    """One answer; ``extra`` is further header lines, each ending in CRLF."""

    __slots__ = ("body", "content_type", "extra", "status")

    def __init__(self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """Make an answer."""
        self.status = status
        self.body = body
        self.content_type = content_type
        self.extra = extra


@dataclass(slots=True)
class Head:
    """
    A request line and its headers, checked; requests with the same head share it.

    Header names are lower case; values of a header that came more than once are joined with ", ".
    """

    method: str
    path: str  # as sent, percent-encoded, without the query
    query: bytes
    headers: dict[bytes, bytes]
    keep_alive: bool
    old: bool = False  # HTTP/1.0, whose clients must be told that the connection stays open
    length: int = 0  # of the body in bytes, or CHUNKED
    expects: bool = False  # the client waits for "100 Continue" before it sends the body
    known: Any = None  # what the server's handler found out from the head alone, for its own use


class Request:
    """One request, whole."""

    __slots__ = ("began", "body", "connection", "head", "on_disconnect", "params", "pending", "response", "trace")

    def __init__(self, head: Head, body: bytes, traceparent: bytes | None = None) -> None:
        """Make a request that nobody has seen yet; ``traceparent`` is its trace's, in the form of version 00."""
        self.head = head
        self.trace = None if traceparent is None else Trace(traceparent)
        # For telemetry, where there is any.
        self.began = 0.0  # monotonic time when it was whole
        self.pending: Pending | None = None  # its part that was queued, until it is answered
        self.body = body
        self.connection: Connection | None = None
        self.params: Any = NO_PARAMS  # by name, from the route's pattern, decoded; or what the route prepares of the head
        self.response: Response | None = None
        # Called if the client goes before it has its answer, or (False) may have gone.
        self.on_disconnect: Callable[[bool], None] | None = None

    @property
    def method(self) -> str:
        """As sent."""
        return self.head.method

    @property
    def path(self) -> str:
        """As sent, percent-encoded, without the query."""
        return self.head.path

    @property
    def query(self) -> bytes:
        """What follows the question mark."""
        return self.head.query

    @property
    def headers(self) -> dict[bytes, bytes]:
        """By lower-case name."""
        return self.head.headers

    @property
    def tracestate(self) -> bytes:
        """What other systems keep of the trace, as sent."""
        return self.head.headers.get(b"tracestate", b"")

    def respond(self, response: Response) -> None:
        """
        Give the answer, once; it is written when those of earlier requests of the connection are.

        Raises:
            RuntimeError: There is one already.
        """
        if self.response is not None:
            raise RuntimeError(f"{self.method} {self.path} was answered twice.")
        self.response = response
        self.on_disconnect = None
        if self.connection is not None:
            self.connection.flush()


def render(request: Request, response: Response, date: bytes, *, closing: bool) -> bytes:
    """
    Give the bytes of an answer.

    Args:
        request: What it answers; HEAD gets the head alone.
        response: The answer.
        date: The date's header line, with its CRLF.
        closing: Whether the connection ends after it.
    """
    trace = request.trace
    last = b"connection: close\r\n" if closing else b"connection: keep-alive\r\n" if request.head.old else b""
    head = b"%scontent-type: %s\r\ncontent-length: %d\r\n%s%s%s\r\n" % (
        STATUS_LINES[response.status],
        response.content_type,
        len(response.body),
        date,
        response.extra if trace is None else response.extra + trace.to_line(),
        last,
    )
    return head if request.head.method == "HEAD" else head + response.body


Respond = Callable[[Response], None]
Handler = Callable[[Request, Respond], None]


def json_response(value: object, status: int = 200, extra: bytes = b"") -> Response:
    """Encode a JSON answer."""
    return Response(status, msgspec.json.encode(value), JSON, extra)


def error_response(status: int, message: str, *, code: str | None = None, extra: bytes = b"") -> Response:
    """Encode ``{"error": message}``, the form of the Open Inference Protocol, with the error's code where it has one."""
    return json_response({"error": message} if code is None else {"error": message, "code": code}, status, extra)
