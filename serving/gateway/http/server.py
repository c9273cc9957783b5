"""An HTTP/1.1 server for one synchronous handler, which answers now or later."""

import asyncio
import logging
import socket
import ssl
from email.utils import formatdate
from pathlib import Path
from typing import Any

from lastgood.errors import LastgoodError
from lastgood.serving.gateway.http.connection import Connection
from lastgood.serving.gateway.http.listening import BACKLOG, accept_waiting, bind_port, bind_socket_file, remove_socket_file
from lastgood.serving.gateway.http.messages import Handler, Request, Respond, Response, error_response, json_response
from lastgood.serving.gateway.http.reading import Heads
from lastgood.serving.gateway.http.turns import Turns
from lastgood.serving.gateway.limits import HttpLimits
from lastgood.serving.gateway.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)
_TICK_SECONDS = 0.5


class Server:
    """Listens on one address, and on a socket file if asked to; `handler` is called from the event loop with each whole request."""

    def __init__(
        self,
        handler: Handler,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: HttpLimits | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        socket_file: Path | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """
        Prepare; `start` listens.

        Args:
            handler: ``handle(request, respond)``; calls ``respond`` once, now or later, and does not block.
            host: Address to listen on.
            port: 0 takes a free one, see `port`.
            limits: What one connection may ask for.
            tls: The port speaks TLS with it, see `listening.load_tls`.
            socket_file: Where to listen besides, for this user's processes; without TLS.
            telemetry: Is told of every request.
        """
        self.handler = handler
        self.host = host
        self.port = port
        self.limits = limits or HttpLimits()
        self.telemetry = telemetry
        self.connections: set[Connection] = set()
        self.heads = Heads()
        self.turns = Turns(self.limits.tick_requests)
        self.draining = False
        self.date = b""
        self._tls = tls
        self._socket_file = socket_file
        self._socket_inode = 0
        self._listeners: list[tuple[asyncio.Server, socket.socket, dict[str, Any]]] = []  # and how to speak with whom it accepts
        self._ticks: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """
        Listen.

        Raises:
            PortTakenError: Another process listens there; names it where the system tells.
            SocketFileTakenError: Another process listens on the socket file, or it is a file of another kind.
            ConfigurationError: The address is none of this machine's, or the socket file cannot be made.
        """
        loop = asyncio.get_running_loop()
        listener = bind_port(self.host, self.port)
        self.port = listener.getsockname()[1]
        self._tick()
        tls: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls, "ssl_handshake_timeout": self.limits.head_seconds}
        self._listeners.append((await loop.create_server(self._meet, sock=listener, backlog=BACKLOG, **tls), listener, tls))
        if self._socket_file is not None:
            try:
                own, self._socket_inode = bind_socket_file(self._socket_file)
            except LastgoodError:
                await self.stop(0)
                raise
            self._listeners.append((await loop.create_unix_server(self._meet, sock=own, backlog=BACKLOG), own, {}))

    def _meet(self) -> Connection:
        return Connection(self)

    async def stop(self, grace_seconds: float = 30.0) -> None:
        """
        Take no more connections, finish the requests that came in, close; cut off what is left after the grace.

        A connection that was at work within the limits' ``drain_idle_seconds`` stays open so long for one more request: it may
        be on its way.
        """
        if not self._listeners:
            return
        loop = asyncio.get_running_loop()
        self.draining = True
        if self._socket_file is not None:
            remove_socket_file(self._socket_file, self._socket_inode)
        late = []
        for listener, own, tls in self._listeners:
            late += [loop.create_task(self._admit(accepted, tls)) for accepted in accept_waiting(own)]
            listener.close()
        self._drain()
        timer = loop.call_later(self.limits.drain_idle_seconds, self._drain)
        if late:
            await asyncio.wait(late, timeout=min(self.limits.drain_idle_seconds, grace_seconds))
            for task in late:
                task.cancel()  # who has not shaken hands by now
        if self.connections:
            self._empty = loop.create_future()
            try:
                async with asyncio.timeout(grace_seconds):
                    await asyncio.shield(self._empty)
            except TimeoutError:
                log.warning("%d connections were cut off after %g s.", len(self.connections), grace_seconds)
                for connection in list(self.connections):
                    connection.abort()
                await self._empty
        timer.cancel()
        for listener, _, _ in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()
        if self._ticks is not None:
            self._ticks.cancel()

    async def _admit(self, accepted: socket.socket, tls: dict[str, Any]) -> None:
        """Serve a connection that stood in a listener's line when that was closed."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._meet, accepted, **tls)
        except OSError as exc:  # TLS errors are of its kind
            log.debug("A client went, or did not shake hands, while the port was closed: %s", exc)
        except asyncio.CancelledError:
            accepted.close()
            raise

    def _drain(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.connections):
            connection.drain(now)

    def forget(self, connection: Connection) -> None:
        """Take note that a connection is gone."""
        self.connections.discard(connection)
        if self._empty is not None and not self.connections and not self._empty.done():
            self._empty.set_result(None)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self.date = b"date: %s\r\n" % formatdate(usegmt=True).encode()
        now = loop.time()
        for connection in list(self.connections):
            connection.check_time(now)
        self._ticks = loop.call_later(_TICK_SECONDS, self._tick)


__all__ = ["Handler", "HttpLimits", "Request", "Respond", "Response", "Server", "error_response", "json_response"]
