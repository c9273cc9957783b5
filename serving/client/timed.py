"""
httpx's connections, on a clock: every read and write has what is left until the request's deadline, however small the pieces are.

httpx itself limits each read and write alone, so that an answer in drops never ends. The deadline, of ``time.monotonic``, is
``until`` in a request's extensions.
"""

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import httpcore
import httpx

from lastgood.serving.client.errors import AnswerBrokenOffError

_UNTIL: Final[ContextVar[float]] = ContextVar("until")
_PIECE_BYTES: Final = 256 * 1024  # written at once


class TimedTransport(httpx.BaseTransport):
    """What an `httpx.Client` sends with; may be shared by threads."""

    def __init__(self, *, verify: ssl.SSLContext | bool, connections: int, idle_seconds: float) -> None:
        """
        Prepare; nothing is connected yet.

        Args:
            verify: Whom to trust; True for the authorities that Python knows.
            connections: At most, all of them kept.
            idle_seconds: How long one is kept that is not used.
        """
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context() if isinstance(verify, bool) else verify,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=idle_seconds,
            network_backend=_Backend(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """
        Send a request and read the head of its answer.

        Raises:
            TransportError: httpx's own, of the kind that fits; `httpx.TimeoutException` when the deadline is over.
        """
        _UNTIL.set(request.extensions["until"])
        url = request.url
        place = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        with _translate():
            # Waiting for a free connection is not reading or writing, and so has a limit of its own.
            limits = {"timeout": {"pool": _left(httpcore.PoolTimeout)}}
            own = httpcore.Request(request.method, place, headers=request.headers.raw, content=request.stream, extensions=limits)
            response = self._pool.handle_request(own)
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response.stream, str(url)), extensions=response.extensions
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """The body of an answer that has begun."""

    def __init__(self, inner: Any, url: str) -> None:
        self._inner, self._url = inner, url

    def __iter__(self) -> Iterator[bytes]:
        try:
            with _translate():
                yield from self._inner
        except httpx.TimeoutException:
            raise
        except httpx.TransportError as exc:
            raise AnswerBrokenOffError(f"The answer from {self._url} broke off ({exc!r}); it is not asked for twice.") from exc

    def close(self) -> None:
        self._inner.close()


class _Backend(httpcore.SyncBackend):
    """TCP connections whose reads and writes are on the clock."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        del timeout
        return _Stream(super().connect_tcp(host, port, _left(httpcore.ConnectTimeout), local_address, socket_options))


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        return self._inner.read(max_bytes, _left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        for start in range(0, len(buffer), _PIECE_BYTES):
            self._inner.write(buffer[start : start + _PIECE_BYTES], _left(httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        del timeout
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _left(httpcore.ConnectTimeout)))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _left(error: type[httpcore.TimeoutException]) -> float:
    left = _UNTIL.get() - time.monotonic()
    if left <= 0:
        raise error("the deadline is over")
    return left


@contextmanager
def _translate() -> Iterator[None]:
    """Raise httpx's error for httpcore's, which has the same name."""
    try:
        yield
    except (
        httpcore.TimeoutException,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.ProxyError,
        httpcore.UnsupportedProtocol,
    ) as exc:
        kind: type[httpx.TransportError] = getattr(httpx, type(exc).__name__)
        raise kind(str(exc)) from exc
