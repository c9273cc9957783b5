"""From method and path to a handler; errors become JSON, and statuses are decided here alone."""

import asyncio
import hmac
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
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
from lastgood.serving.gateway.http.messages import NO_PARAMS, Handler, Head, Request, Respond, Response, error_response
from lastgood.serving.gateway.telemetry.context import describe

log = logging.getLogger(__name__)
Endpoint = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]
Prepare = Callable[[Head, Mapping[str, str]], Any]
Methods = dict[str, tuple[Handler, Prepare | None]]

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
        self._exact: dict[str, Methods] = {}
        self._patterns: dict[int, list[tuple[tuple[str, ...], Methods]]] = {}  # by number of segments
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

    def add_callback(self, method: str, pattern: str, handler: Handler, prepare: Prepare | None = None) -> None:
        """
        Let ``handler(request, respond)`` answer, now or later.

        Args:
            method: "GET" answers HEAD too.
            pattern: Path whose ``{name}`` segments become ``request.params``.
            handler: Who answers.
            prepare: Gives what is found in ``request.params`` instead, from the head and the segments: once for all requests that have
                the same head.
        """
        found = (handler, prepare)
        if "{" not in pattern:
            self._exact.setdefault(pattern, {})[method] = found
            return
        segments = tuple(pattern.split("/"))
        for known, methods in self._patterns.setdefault(len(segments), []):
            if known == segments:
                methods[method] = found
                return
        self._patterns[len(segments)].append((segments, {method: found}))

    def __call__(self, request: Request, respond: Respond) -> None:
        """Find who answers a request, and let them; what follows from its head is found once for all requests that have the same."""
        head = request.head
        found: tuple[Handler, Any] | None = head.known
        if found is None:
            found = head.known = self._find(head)
        request.params = found[1]
        found[0](request, respond)

    def _find(self, head: Head) -> tuple[Handler, Any]:
        if self._token is not None and head.path not in self._open and not is_bearer(head.headers.get(b"authorization"), self._token):
            return _answer(401, "A bearer token is needed: Authorization: Bearer TOKEN.", b"www-authenticate: Bearer\r\n"), NO_PARAMS
        methods, params = self._match(head.path)
        if methods is None:
            return _answer(404, f"There is nothing at {head.path[:200]!r}."), NO_PARAMS
        found = methods.get("GET" if head.method == "HEAD" else head.method)
        if found is None:
            allowed = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))
            message = f"{head.method} is not known for {head.path[:200]!r}; expected {allowed}."
            return _answer(405, message, b"allow: %s\r\n" % allowed.encode()), NO_PARAMS
        handler, prepare = found
        return handler, params if prepare is None else prepare(head, params)

    def _match(self, path: str) -> tuple[Methods | None, Mapping[str, str]]:
        methods = self._exact.get(path)
        if methods is not None:
            return methods, NO_PARAMS
        segments = path.split("/")
        for pattern, methods in self._patterns.get(len(segments), ()):
            if all(wanted == given or (wanted.startswith("{") and given) for wanted, given in zip(pattern, segments, strict=True)):
                pairs = zip(pattern, segments, strict=True)
                return methods, {wanted[1:-1]: unquote(given) for wanted, given in pairs if wanted.startswith("{")}
        return None, NO_PARAMS

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


def is_bearer(authorization: bytes | None, token: bytes) -> bool:
    """Say whether a header's value is ``Bearer`` and the token; takes the same time however much of the token is right."""
    scheme, _, given = (authorization or b"").partition(b" ")
    return hmac.compare_digest(given.lstrip(b" "), token) and scheme.lower() == b"bearer"


def _answer(status: int, message: str, extra: bytes = b"") -> Handler:
    def handle(request: Request, respond: Respond) -> None:
        del request
        respond(error_response(status, message, extra=extra))

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
    log.error("%s %s failed (%s)", request.method, request.path, number, exc_info=exc, extra=describe(request.trace))
    return error_response(500, f"Something broke here; the log has it as {number}.")
