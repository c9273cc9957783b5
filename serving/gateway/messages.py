"""Requests and responses as the server's handlers see them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from lastgood.serving.gateway.connection import Connection

JSON: Final = b"application/json"
STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


@dataclass(slots=True)
class Response:
    """One answer; ``extra`` is further header lines, each ending in CRLF."""

    status: int
    body: bytes
    content_type: bytes = JSON
    extra: bytes = b""


@dataclass(slots=True)
class Request:
    """
    One request, whole.

    Header names are lower case; values of a header that came more than once are joined with ", ".
    """

    method: str
    path: str  # as sent, percent-encoded, without the query
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes
    keep_alive: bool
    old: bool = False  # HTTP/1.0, whose clients must be told that the connection stays open
    connection: "Connection | None" = None
    params: dict[str, str] = field(default_factory=dict)  # from the route's pattern, decoded
    response: Response | None = None
    on_disconnect: Callable[[bool], None] | None = None  # called if the client goes before it has its answer, or (False) may have gone

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
    last = b"connection: close\r\n" if closing else b"connection: keep-alive\r\n" if request.old else b""
    head = b"%scontent-type: %s\r\ncontent-length: %d\r\n%s%s%s\r\n" % (
        STATUS_LINES[response.status],
        response.content_type,
        len(response.body),
        date,
        response.extra,
        last,
    )
    return head if request.method == "HEAD" else head + response.body


Respond = Callable[[Response], None]
Handler = Callable[[Request, Respond], None]


def json_response(value: object, status: int = 200, extra: bytes = b"") -> Response:
    """Encode a JSON answer."""
    return Response(status, msgspec.json.encode(value), JSON, extra)


def error_response(status: int, message: str, *, code: str | None = None, extra: bytes = b"") -> Response:
    """Encode ``{"error": message}``, the form of the Open Inference Protocol, with the error's code where it has one."""
    return json_response({"error": message} if code is None else {"error": message, "code": code}, status, extra)
