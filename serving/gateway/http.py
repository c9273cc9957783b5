"""An HTTP/1.1 server for one synchronous handler, which answers now or later."""

import asyncio
import errno
import logging
import socket
from email.utils import formatdate

from lastgood.errors import ConfigurationError
from lastgood.ports import find_listener
from lastgood.serving.gateway.connection import Connection
from lastgood.serving.gateway.errors import PortTakenError
from lastgood.serving.gateway.limits import HttpLimits
from lastgood.serving.gateway.messages import Handler, Request, Respond, Response, error_response, json_response

log = logging.getLogger(__name__)
_BACKLOG = 1024
_TICK_SECONDS = 0.5


class Server:
    """Listens on one address; `handler` is called from the event loop with each whole request."""

    def __init__(self, handler: Handler, host: str = "127.0.0.1", port: int = 0, limits: HttpLimits | None = None) -> None:
        """
        Prepare; `start` listens.

        Args:
            handler: ``handle(request, respond)``; calls ``respond`` once, now or later, and does not block.
            host: Address to listen on.
            port: 0 takes a free one, see `port`.
            limits: What one connection may ask for.
        """
        self.handler = handler
        self.host = host
        self.port = port
        self.limits = limits or HttpLimits()
        self.connections: set[Connection] = set()
        self.draining = False
        self.date = b""
        self._listener: asyncio.Server | None = None
        self._ticks: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """
        Listen.

        Raises:
            PortTakenError: Another process listens there; names it where the system tells.
            ConfigurationError: The address is none of this machine's.
        """
        loop = asyncio.get_running_loop()
        listener = self._bind()
        self.port = listener.getsockname()[1]
        self._tick()
        self._listener = await loop.create_server(lambda: Connection(self), sock=listener, backlog=_BACKLOG)

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
            listener.listen(_BACKLOG)
        except OSError as exc:
            listener.close()
            if exc.errno == errno.EADDRINUSE:
                found = find_listener(self.port)
                holder = "a process that has just ended" if found is None else found.name
                raise PortTakenError(
                    f"Port {self.port} on {self.host} is taken by {holder}. Stop that, or choose another port (LASTGOOD_PORT_…)."
                ) from exc
            raise ConfigurationError(
                f"Cannot listen on {self.host}:{self.port}: {exc.strerror}. Expected an address of this machine."
            ) from exc
        return listener

    async def stop(self, grace_seconds: float = 30.0) -> None:
        """Take no more connections, finish the requests that came in, close; cut off what is left after the grace."""
        if self._listener is None:
            return
        self.draining = True
        self._listener.close()
        for connection in list(self.connections):
            connection.drain()
        if self.connections:
            self._empty = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(grace_seconds):
                    await asyncio.shield(self._empty)
            except TimeoutError:
                log.warning("%d connections were cut off after %g s.", len(self.connections), grace_seconds)
                for connection in list(self.connections):
                    connection.abort()
                await self._empty
        await self._listener.wait_closed()
        self._listener = None
        if self._ticks is not None:
            self._ticks.cancel()

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
