"""From method and path to a handler; errors become JSON, and statuses are decided here alone."""

import asyncio
import hmac
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, cast
from urllib.parse import unquote

from lastgood.errors import (
    ConflictError,
    IntegrityError,
    LastgoodError,
    NotFoundError,
    RefusedError,
    TimedOutError,
    UnavailableError,
    UsageError,
)
from lastgood.serving.gateway.messages import Handler, Request, Respond, Response, error_response

log = logging.getLogger(__name__)
Endpoint = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]

# The most special class first.
STATUSES: Final[tuple[tuple[type[LastgoodError], int], ...]] = (
    (TimedOutError, 504),
    (UnavailableError, 503),
    (NotFoundError, 404),
    (ConflictError, 409),
    (RefusedError, 409),
    (UsageError, 400),
    (IntegrityError, 500),
)


def find_status(error: LastgoodError) -> int:
    """Give the HTTP status for an error; 500 for one that is no kind of its own."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


class Router:
    """A table of (method, path pattern) and what answers; itself a server's handler."""

    def __init__(self, *, token: str | None = None, open_paths: Iterable[str] = ()) -> None:
        """
        Begin with an empty table.

        Args:
            token: What callers must send as ``Authorization: Bearer …``; None lets everybody in.
            open_paths: Paths that need none, for health checks.
        """
        self._exact: dict[str, dict[str, Handler]] = {}
        self._patterns: dict[int, list[tuple[tuple[str, ...], dict[str, Handler]]]] = {}  # by number of segments
        self._token = None if token is None else token.encode()
        self._open = frozenset(open_paths)
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, method: str, pattern: str, endpoint: Endpoint) -> None:
        """
        Let a function that gives a `Response`, plain or ``async``, answer.

        Args:
            method: "GET" answers HEAD too.
            pattern: Path whose ``{name}`` segments become ``request.params``.
            endpoint: May raise a `LastgoodError`, which becomes its status and sentence.
        """
        if inspect.iscoroutinefunction(endpoint):
            self.add_callback(method, pattern, self._wrap_async(cast("Callable[[Request], Awaitable[Response]]", endpoint)))
        else:
            self.add_callback(method, pattern, _wrap(cast("Callable[[Request], Response]", endpoint)))

    def add_callback(self, method: str, pattern: str, handler: Handler) -> None:
        """Let ``handler(request, respond)`` answer, now or later."""
        if "{" not in pattern:
            self._exact.setdefault(pattern, {})[method] = handler
            return
        segments = tuple(pattern.split("/"))
        for known, methods in self._patterns.setdefault(len(segments), []):
            if known == segments:
                methods[method] = handler
                return
        self._patterns[len(segments)].append((segments, {method: handler}))

    def __call__(self, request: Request, respond: Respond) -> None:
        """Find who answers a request, and let them."""
        if not self.allows(request):
            respond(error_response(401, "A bearer token is needed: Authorization: Bearer TOKEN.", extra=b"www-authenticate: Bearer\r\n"))
            return
        methods = self._find(request)
        if methods is None:
            respond(error_response(404, f"There is nothing at {request.path[:200]!r}."))
            return
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))
            message = f"{request.method} is not known for {request.path[:200]!r}; expected {allowed}."
            respond(error_response(405, message, extra=b"allow: %s\r\n" % allowed.encode()))
            return
        handler(request, respond)

    def allows(self, request: Request) -> bool:
        """Say whether the request has the token, or needs none; takes the same time however much of it is right."""
        if self._token is None or request.path in self._open:
            return True
        scheme, _, token = request.headers.get(b"authorization", b"").partition(b" ")
        return hmac.compare_digest(token.lstrip(b" "), self._token) and scheme.lower() == b"bearer"

    def _find(self, request: Request) -> dict[str, Handler] | None:
        methods = self._exact.get(request.path)
        if methods is not None:
            return methods
        segments = request.path.split("/")
        for pattern, methods in self._patterns.get(len(segments), ()):
            if all(wanted == given or (wanted.startswith("{") and given) for wanted, given in zip(pattern, segments, strict=True)):
                request.params = {
                    wanted[1:-1]: unquote(given) for wanted, given in zip(pattern, segments, strict=True) if wanted.startswith("{")
                }
                return methods
        return None

    def _wrap_async(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Handler:
        async def run(request: Request, respond: Respond) -> None:
            try:
                response = await endpoint(request)
            except Exception as exc:  # noqa: BLE001  # every one becomes an answer, and a bug is logged there
                response = _explain(request, exc)
            respond(response)

        def handle(request: Request, respond: Respond) -> None:
            task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(run(request, respond))
            self._tasks.add(task)  # the loop keeps weak references only
            task.add_done_callback(self._tasks.discard)

        return handle


def _wrap(endpoint: Callable[[Request], Response]) -> Handler:
    def handle(request: Request, respond: Respond) -> None:
        try:
            response = endpoint(request)
        except Exception as exc:  # noqa: BLE001  # every one becomes an answer, and a bug is logged there
            response = _explain(request, exc)
        respond(response)

    return handle


def _explain(request: Request, exc: Exception) -> Response:
    if isinstance(exc, LastgoodError):
        return error_response(find_status(exc), str(exc), code=exc.code)
    number = secrets.token_hex(4)
    log.error("%s %s failed (%s)", request.method, request.path, number, exc_info=exc)
    return error_response(500, f"Something broke here; the log has it as {number}.")
