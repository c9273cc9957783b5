"""
One HTTP/1.1 connection: bytes in, whole requests to the handler, answers out in the order the requests came.

No coroutine and no timer for each request: the parser calls back, the handler answers now or later, and the
server looks at all connections for time-outs together.
"""

import asyncio
import logging
import secrets
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, cast

import httptools

from lastgood.serving.gateway.messages import STATUS_LINES, Request, Response, error_response

if TYPE_CHECKING:
    from lastgood.serving.gateway.http import Server

log = logging.getLogger(__name__)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Phase(Enum):
    """What the next byte belongs to."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()


class _Refusal(Exception):  # noqa: N818  # leaves the parser's callbacks, never this module
    """The request is refused before it is whole."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Connection(asyncio.Protocol):
    """The server's end of one connection; `flush` is called whenever a request has its answer."""

    def __init__(self, server: "Server") -> None:
        """Belong to a server, which hands requests on."""
        self._server = server
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchanges: deque[Request] = deque()  # not yet written, oldest first
        self._phase = Phase.IDLE
        self._since = self._loop.time()  # when the phase began
        self._deaf = False  # what comes now is not read: the last answer is on its way
        self._linger = False
        self._upgrading = False
        self._depth_paused = False
        self._write_paused = False
        self._refusal: _Refusal | None = None
        self._partial_head = 0
        self._messages = 0
        self._start_message()

    # --- transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the requests that are not answered that nobody waits for them."""
        del exc
        self._transport = None
        self._deaf = True
        self._server.forget(self)
        exchanges = list(self._exchanges)
        self._exchanges.clear()
        for request in exchanges:
            request.connection = None
            if request.on_disconnect is not None:
                request.on_disconnect()

    def eof_received(self) -> bool:
        """Take a closed sending side for a client that is gone."""
        return False

    def pause_writing(self) -> None:
        """Read no more requests from a client that does not read its answers."""
        self._write_paused = True
        self._adjust_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._write_paused = False
        self._adjust_reading()

    def _adjust_reading(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._write_paused or self._depth_paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        if self._deaf:
            return
        phase, messages = self._phase, self._messages
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._decline_upgrade(data[exc.args[0] :])
            return
        except httptools.HttpParserError as exc:
            self._refuse_unparsed(exc)
            return
        if self._phase is Phase.HEAD:
            # The parser tells of a header line once it is whole; this bounds one that never is.
            begun = self._messages - messages
            if phase is Phase.HEAD and begun == 0:
                self._partial_head += len(data)
            else:  # behind the end of another request nobody knows where this head began; the next piece is counted
                self._partial_head = len(data) if phase is Phase.IDLE and begun == 1 else 0
            if self._partial_head > self._limits.head_bytes:
                self._refuse(431, f"The head of the request is over {self._limits.head_bytes} bytes.")
        if len(self._exchanges) >= self._limits.pipelined and not self._depth_paused:
            self._depth_paused = True
            self._adjust_reading()

    # --- parser's callbacks --------------------------------------------------------------------------------------

    def _start_message(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._deaf:
            return
        self._start_message()
        self._messages += 1
        self._phase = Phase.HEAD
        self._since = self._loop.time()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target."""
        self._url += url
        self._head_bytes += len(url)
        if self._head_bytes > self._limits.head_bytes:
            self._raise(414, f"The request target is over {self._limits.head_bytes} bytes.")

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """Take a header; those after the body are of no use here."""
        self._head_bytes += len(name) + len(value or b"") + 4
        if self._head_bytes > self._limits.head_bytes:
            self._raise(431, f"The head of the request is over {self._limits.head_bytes} bytes.")
        if self._phase is not Phase.HEAD:
            return
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value or b"" if known is None else known + b", " + (value or b"")

    def on_headers_complete(self) -> None:
        """Refuse what can be refused before the body comes."""
        if self._deaf:
            return
        headers = self._headers
        if self._parser.should_upgrade():
            self._upgrading = True
            return
        if self._parser.get_http_version() not in {"1.1", "1.0"}:
            self._raise(505, f"HTTP/{self._parser.get_http_version()} is not spoken here; expected HTTP/1.1.")
        host = headers.get(b"host")
        if self._parser.get_http_version() == "1.1" and (host is None or b"," in host):
            self._raise(400, "The request must have exactly one Host header.")
        coding = headers.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            self._raise(501, f"Transfer-Encoding {coding.decode('latin-1')!r} is not known; expected chunked.")
        if int(headers.get(b"content-length", b"0")) > self._limits.body_bytes:
            self._raise(413, f"The body has {int(headers[b'content-length'])} bytes; {self._limits.body_bytes} are allowed.")
        expected = headers.get(b"expect")
        if expected is not None:
            if expected.lower() != b"100-continue":
                self._raise(417, f"Expect: {expected.decode('latin-1')} cannot be met; expected 100-continue.")
            # Behind unanswered requests the client gets it with their answers, or sends without: it may not wait forever.
            if not self._exchanges and self._transport is not None:
                self._transport.write(_CONTINUE)
        self._phase = Phase.BODY
        self._since = self._loop.time()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if self._deaf:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            self._raise(413, f"The body is over the {self._limits.body_bytes} bytes allowed.")
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        """Hand the request on."""
        if self._deaf or self._upgrading:
            return
        path, _, query = self._url.partition(b"?")
        if not path.startswith(b"/") and b"://" in path:  # absolute form, as proxies send it
            path = b"/" + path.split(b"://", 1)[1].partition(b"/")[2]
        request = Request(
            method=self._parser.get_method().decode("ascii"),
            path=path.decode("latin-1"),
            query=query,
            headers=self._headers,
            body=self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks),
            keep_alive=self._parser.should_keep_alive() and self._parser.get_http_version() == "1.1",
            connection=self,
        )
        self._chunks = []
        self._phase = Phase.IDLE
        self._partial_head = 0
        self._since = self._loop.time()
        self._exchanges.append(request)
        if not request.keep_alive or self._server.draining:
            self._deaf = True
        try:
            self._server.handler(request, request.respond)
        except Exception:
            number = secrets.token_hex(4)
            log.exception("%s %s failed (%s)", request.method, request.path, number)
            if request.response is None:
                request.respond(error_response(500, f"Something broke here; the log has it as {number}."))

    def _raise(self, status: int, message: str) -> None:
        self._refusal = _Refusal(status, message)
        raise self._refusal

    # --- answers -------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the answers that are next in order, together."""
        transport = self._transport
        if transport is None:
            return
        pieces: list[bytes] = []
        exchanges = self._exchanges
        closing = False
        while exchanges and exchanges[0].response is not None and not closing:
            request = exchanges.popleft()
            closing = not request.keep_alive or (self._server.draining and not exchanges and self._phase is Phase.IDLE)
            pieces.append(self._render(request, cast("Response", request.response), closing=closing))
            request.connection = None
        if not pieces:
            return
        self._since = self._loop.time()
        transport.write(b"".join(pieces))
        if closing:
            self._close()
        elif self._depth_paused and len(exchanges) < self._limits.pipelined:
            self._depth_paused = False
            self._adjust_reading()

    def _render(self, request: Request, response: Response, *, closing: bool) -> bytes:
        head = b"%scontent-type: %s\r\ncontent-length: %d\r\n%s%s%s\r\n" % (
            STATUS_LINES[response.status],
            response.content_type,
            len(response.body),
            self._server.date,
            response.extra,
            b"connection: close\r\n" if closing else b"",
        )
        return head if request.method == "HEAD" else head + response.body

    def _refuse_unparsed(self, error: Exception) -> None:
        if self._deaf:  # bytes after the request that ended the connection
            return
        refusal = self._refusal or _Refusal(400, f"The request is not valid HTTP/1.1: {error}.")
        self._refuse(refusal.status, refusal.message)

    def _refuse(self, status: int, message: str) -> None:
        """Answer after the earlier ones and read no further: what follows cannot be told apart from the next request."""
        self._deaf = True
        self._linger = True
        self._phase = Phase.IDLE
        request = Request("GET", "", b"", {}, b"", keep_alive=False, connection=self)
        self._exchanges.append(request)
        request.respond(error_response(status, message))

    def _close(self) -> None:
        transport = self._transport
        self._deaf = True
        if transport is None:
            return
        if self._linger and transport.can_write_eof():
            # Closing with unread bytes resets the connection, and the client might lose the answer that says why.
            if not transport.is_closing():
                self._depth_paused = self._write_paused = False
                self._adjust_reading()
                transport.write_eof()
                self._loop.call_later(self._limits.linger_seconds, transport.abort)
            return
        transport.close()

    def _decline_upgrade(self, rest: bytes) -> None:
        """Answer as if no other protocol had been offered: HTTP/1.1 leaves that to the server, and Java's client always offers."""
        method = self._parser.get_method()
        self._upgrading = False
        if method == b"CONNECT":
            self._refuse(501, "CONNECT is not served: this is no proxy.")
            return
        lines = [b"%s %s HTTP/1.1\r\n" % (method, self._url)]
        lines += [b"%s: %s\r\n" % item for item in self._headers.items() if item[0] not in {b"upgrade", b"connection", b"http2-settings"}]
        self._parser = httptools.HttpRequestParser(self)
        self._messages -= 1
        self.data_received(b"".join(lines) + b"\r\n" + rest)

    # --- the server's calls --------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """End what takes too long."""
        if self._deaf:
            # The client does not take its last answer.
            if not self._exchanges and now - self._since > self._limits.idle_seconds and self._transport is not None:
                self._transport.abort()
            return
        waited = now - self._since
        if self._phase is Phase.HEAD and waited > self._limits.head_seconds:
            self._refuse(408, f"The head of the request did not come within {self._limits.head_seconds:g} s.")
        elif self._phase is Phase.BODY and waited > self._limits.body_seconds:
            self._refuse(408, f"The body of the request did not come within {self._limits.body_seconds:g} s.")
        elif self._phase is Phase.IDLE and not self._exchanges and waited > self._limits.idle_seconds and self._transport is not None:
            if self._transport.get_write_buffer_size():
                self._transport.abort()
            else:
                self._transport.close()

    def drain(self) -> None:
        """Finish what came in, then close."""
        if self._phase is not Phase.IDLE:
            return
        self._deaf = True
        if not self._exchanges:
            self._close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
