"""
One HTTP/1.1 connection: whole requests to the handler, answers out in the order the requests came, and an orderly end.

No coroutine and no timer for each request: the handler answers now or later, and the server looks at all connections
for time-outs together.
"""

import asyncio
import logging
import secrets
from collections import deque
from typing import TYPE_CHECKING, cast

from lastgood.serving.gateway.http.framing import Refusal
from lastgood.serving.gateway.http.messages import Head, Request, Response, error_response, render
from lastgood.serving.gateway.http.reading import Phase, RequestReader
from lastgood.serving.gateway.telemetry.context import describe

if TYPE_CHECKING:
    from lastgood.serving.gateway.http.server import Server
    from lastgood.serving.gateway.telemetry.telemetry import Sinks

log = logging.getLogger(__name__)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """The server's end of one connection; `flush` is called whenever a request has its answer."""

    def __init__(self, server: "Server") -> None:
        """Belong to a server, which hands requests on."""
        self._server = server
        self._telemetry = server.telemetry
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(server.limits, self._loop.time, server.heads)
        self._transport: asyncio.Transport | None = None
        self._exchanges: deque[Request] = deque()  # not yet written, oldest first
        self._deaf = False  # what comes now is not read: the last answer is on its way
        self._eof = False  # the client sends no more
        self._taking = False  # requests are being handed on: who answers at once need not wake the reader
        self._in_line = False  # there is more to hand on, and it is the others' turn
        self._flooded = False  # even more came meanwhile
        self._paused = False
        self._write_paused = False
        self._idle_since = self._loop.time()
        self._lingers_since: float | None = None
        self._written = 0  # bytes, ever
        self._mark: tuple[int, float] | None = None  # so many bytes were to be taken, and since when

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
        for request in self._exchanges:
            request.connection = request.pending = None
        self._leave(gone=True)
        self._exchanges.clear()

    def _leave(self, gone: bool) -> None:  # noqa: FBT001 - called by the loop
        """Tell requests without an answer that their client is gone, or that it only may be: it sends no more, and perhaps still reads."""
        for request in list(self._exchanges):
            if request.on_disconnect is not None:
                request.on_disconnect(gone)

    def eof_received(self) -> bool:
        """Answer what came in: a client may close its sending side and go on reading. TLS has no half-closed connections."""
        transport = self._transport
        if transport is None or self._lingers_since is not None or transport.get_extra_info("sslcontext") is not None:
            return False
        self._eof = True
        self._take_requests()
        if self._exchanges:
            self._loop.call_later(self._limits.half_closed_seconds, self._leave, False)
        return not transport.is_closing()

    def pause_writing(self) -> None:
        """Take no more requests from a client that does not read its answers."""
        self._write_paused = True
        self._adjust_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._write_paused = False
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """Hand on every request that is whole."""
        if self._deaf:
            return
        self._reader.push(data)
        if self._in_line:
            self._flooded = True
            self._adjust_reading()
        else:
            self._take_requests()

    # --- requests ------------------------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return self._write_paused or len(self._exchanges) >= self._limits.pipelined

    def _take_requests(self) -> None:
        if self._taking or self._in_line:
            return
        self._taking = True
        try:
            while not self._deaf and not self._is_full():
                request = self._reader.read()
                if request is None:
                    self._wait()
                    break
                self._take(request)
                if not (self._reader.pending or self._eof or self._server.draining):
                    break
                if not self._server.turns.take():
                    self._in_line = True
                    self._loop.call_soon(self._take_turn)
                    break
        except Refusal as exc:
            self._refuse(exc)
        finally:
            self._taking = False
        self._adjust_reading()

    def _take_turn(self) -> None:
        self._in_line = self._flooded = False
        self._take_requests()

    def _take(self, request: Request) -> None:
        request.connection = self
        self._exchanges.append(request)
        if self._telemetry is not None:
            self._telemetry.begin(request)
        if not request.head.keep_alive:
            self._deaf = True
        try:
            self._server.handler(request, request.respond)
        except Exception:
            number = secrets.token_hex(4)
            log.exception("%s %s failed (%s)", request.method, request.path, number, extra=describe(request.trace))
            if request.response is None:
                request.respond(error_response(500, f"Something broke here; the log has it as {number}."))

    def _wait(self) -> None:
        """See to it that something can come: the client may wait for a word, have closed its side, or be the one to go."""
        if self._eof and self._reader.pending:
            raise Refusal(400, "The connection was closed in the middle of a request.")
        if self._is_over() and (self._eof or self._exchanges):  # else `drain` says how long a next request may come
            self._deaf = True
            if not self._exchanges:
                self._close()
        elif self._reader.awaited and not self._exchanges:
            self._reader.awaited = False
            self._write(_CONTINUE)

    def _is_over(self) -> bool:
        """Say whether no request is to come any more."""
        return (self._eof or self._server.draining) and not self._reader.pending

    def _refuse(self, refusal: Refusal) -> None:
        """Answer after the earlier ones and read no further: what follows cannot be told apart from the next request."""
        self._deaf = True
        request = Request(Head(self._reader.method or "GET", "", b"", {}, keep_alive=False), b"")
        request.connection = self
        self._exchanges.append(request)
        if self._telemetry is not None:
            self._telemetry.begin(request)
        request.respond(error_response(refusal.status, refusal.message))

    def _adjust_reading(self) -> None:
        paused = not self._deaf and (self._flooded or self._is_full())
        if paused == self._paused or self._transport is None or self._transport.is_closing():
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._reader.since = self._loop.time()  # the client could not send meanwhile
            self._transport.resume_reading()

    def _go_on(self) -> None:
        """Look again for requests, or for a reason to end, once there is room; not below whoever made it."""
        if not self._taking and (self._paused or self._reader.awaited) and not self._is_full():
            self._loop.call_soon(self._take_requests)

    # --- answers -------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the answers that are next in order, together."""
        if self._transport is None:
            return
        exchanges, telemetry = self._exchanges, self._telemetry
        pieces, closing = [], False
        kept: list[tuple[Request, Sinks, int, int]] = []
        while exchanges and exchanges[0].response is not None and not closing:
            request = exchanges.popleft()
            closing = not request.head.keep_alive or (not exchanges and self._is_over())
            response = cast("Response", request.response)
            piece = render(request, response, self._server.date, closing=closing)
            pieces.append(piece)
            request.connection = None
            if telemetry is not None:
                sinks = telemetry.choose(request.trace, response.status)
                if sinks:
                    kept.append((request, sinks, response.status, len(piece)))
                else:
                    request.pending = None
        if not pieces:
            return
        self._idle_since = self._loop.time()
        self._write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if telemetry is not None:
            for request, sinks, status, nbytes in kept:
                telemetry.keep(request, sinks, status, nbytes)
        if closing:
            self._close()
        else:
            self._go_on()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._written += len(data)
            self._transport.write(data)

    def _close(self) -> None:
        """End after what was written; a client that is still sending is read on for a moment."""
        self._deaf, transport = True, self._transport
        if transport is None or transport.is_closing() or self._lingers_since is not None:
            return
        if self._eof or not self._written or not transport.can_write_eof():
            transport.close()
            return
        # Closing with unread bytes resets the connection, and the client might lose its last answer.
        self._lingers_since = self._loop.time()
        self._adjust_reading()
        transport.write_eof()

    # --- the server's calls --------------------------------------------------------------------------------------

    def check_time(self, now: float) -> None:
        """End what takes too long."""
        transport, limits = self._transport, self._limits
        if transport is None:
            return
        if waiting := transport.get_write_buffer_size():
            self._check_taken(now, waiting)
            return
        self._mark = None
        if self._lingers_since is not None:
            if now - self._lingers_since > limits.linger_seconds:
                transport.abort()
            return
        if self._deaf or self._paused:
            return
        phase, waited = self._reader.phase, now - self._reader.since
        if phase is Phase.HEAD and waited > limits.head_seconds:
            self._refuse(Refusal(408, f"The head of the request did not come within {limits.head_seconds:g} s."))
        elif phase is Phase.BODY and waited > limits.body_seconds:
            self._refuse(Refusal(408, f"The body of the request did not come within {limits.body_seconds:g} s."))
        elif phase is Phase.IDLE and not self._exchanges and now - self._idle_since > limits.idle_seconds:
            transport.close()

    def _check_taken(self, now: float, waiting: int) -> None:
        """Cut off a client that does not take what was written, however little of it at a time."""
        taken = self._written - waiting
        if self._mark is None or taken >= self._mark[0]:
            self._mark = (self._written, now)
        elif now - self._mark[1] > self._limits.answer_seconds:
            self.abort()

    def drain(self, now: float) -> None:
        """Finish what came in, then close; whoever was busy a moment ago may have sent its next request, which is its last."""
        if self._deaf or not self._is_over():
            return
        if self._exchanges:
            self._deaf = True
        elif now - self._idle_since >= self._limits.drain_idle_seconds:
            self._close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
