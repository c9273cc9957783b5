"""Who may call: those who send the token, and everybody for health."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import grpc

from lastgood.serving.gateway.grpc.health import NAME as HEALTH
from lastgood.serving.gateway.grpc.messages import SERVICE
from lastgood.serving.gateway.http.router import is_bearer

OPEN_METHODS: Final = (f"/{HEALTH}/Check", f"/{HEALTH}/Watch", f"/{SERVICE}/ServerLive", f"/{SERVICE}/ServerReady")


class Guard(grpc.aio.ServerInterceptor):
    """Refuses calls without the token before their message is read."""

    def __init__(self, token: str, open_methods: Iterable[str] = OPEN_METHODS) -> None:
        """Ask for ``authorization: Bearer TOKEN`` in the metadata of all methods but those."""
        self._token = token.encode()
        self._open = frozenset(open_methods)
        # Of streams, whatever the method has: no message is waited for.
        self._refusal = grpc.stream_stream_rpc_method_handler(_refuse)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Give the handler of a call, or one that refuses it."""
        if handler_call_details.method not in self._open:
            given = dict(handler_call_details.invocation_metadata).get("authorization")
            if not is_bearer(None if given is None else given.encode(), self._token):
                return self._refusal
        return await continuation(handler_call_details)


async def _refuse(messages: Any, context: Any) -> None:
    del messages
    text = "A bearer token is needed in the metadata: authorization: Bearer TOKEN."
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, text)
