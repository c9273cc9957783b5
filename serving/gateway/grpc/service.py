"""The methods of the Open Inference Protocol's service, and how long the answers of those that wait are waited for."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

import lastgood
from lastgood.errors import LastgoodError
from lastgood.serving.gateway.errors import BusyError, NothingUpError
from lastgood.serving.gateway.grpc.inference import GrpcInference, infer
from lastgood.serving.gateway.grpc.messages import SERVICE, ModelInferRequest, find_message
from lastgood.serving.gateway.grpc.statuses import Reply, explain, refuse
from lastgood.serving.gateway.grpc.traced import TracedCall
from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.telemetry.telemetry import Telemetry

log = logging.getLogger(__name__)
Endpoint = Callable[[bytes, Any], Awaitable[bytes]]
STOPPING: Final = refuse(grpc.StatusCode.UNAVAILABLE, "The gateway is stopping; try again.")


class InferenceService:
    """Answers the service's calls; belongs to one event loop."""

    def __init__(self, reception: Reception, telemetry: Telemetry | None = None) -> None:
        """Begin without a call; ``telemetry`` is told of each inference."""
        self.draining = False
        self._telemetry = telemetry
        self._reception = reception
        self._waiting: set[GrpcInference] = set()
        self._empty: asyncio.Future[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether every model has a ready version for its traffic, and new calls are taken."""
        return not self.draining and self._reception.ready

    def make_handlers(self) -> Any:
        """Give what a server asks for the handler of a method."""
        answers: dict[str, Callable[[Any], dict[str, Any]]] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self.ready},
            "ServerMetadata": lambda _: {"name": "lastgood", "version": lastgood.__version__},
            "ModelReady": self._tell_ready,
            "ModelMetadata": self._describe,
        }
        endpoints: dict[str, Endpoint] = {name: _wrap(name, answer) for name, answer in answers.items()}
        endpoints["ModelInfer"] = self._infer
        # Without a deserializer: what is no message gets a sentence of ours.
        handlers = {name: grpc.unary_unary_rpc_method_handler(endpoint) for name, endpoint in endpoints.items()}
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def drain(self, grace_seconds: float) -> None:
        """Refuse new calls, wait until those that came in are answered, and refuse those too that are not after the grace."""
        self.draining = True
        if self._waiting:
            self._empty = asyncio.get_running_loop().create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    await self._empty
        if self._waiting:
            log.warning("%d gRPC calls were refused after %g s.", len(self._waiting), grace_seconds)
        for inference in self._waiting:
            if not inference.finished:
                inference.refuse("stopped", "the gateway is stopping; try again")

    async def _infer(self, body: bytes, context: Any) -> bytes:
        metadata = context.invocation_metadata()
        call = TracedCall(metadata, self._telemetry)
        reply = STOPPING if self.draining else await self._ask(body, dict(metadata), context.time_remaining(), call)
        return await _end(context, call.end(reply))

    async def _ask(self, body: bytes, metadata: Mapping[str, str], left: float | None, call: TracedCall) -> Reply:
        try:
            # No name for the message: while the answer is waited for, it would hold the tensors' bytes once more.
            begun = infer(self._reception, ModelInferRequest.FromString(body), metadata, left, call.trace)
            call.pending = begun
        except BusyError as exc:
            await self._hold()
            return explain(exc)
        except Exception as exc:  # noqa: BLE001  # every one becomes an answer, and a bug is logged there
            return _explain("ModelInfer", exc)
        self._waiting.add(begun)
        try:
            return await begun.reply
        finally:
            begun.abandon()  # where the call was cancelled: the client is gone, or has no patience left
            self._waiting.discard(begun)
            if self._empty is not None and not self._waiting and not self._empty.done():
                self._empty.set_result(None)

    async def _hold(self) -> None:
        """Wait as those do who are refused for want of room over REST."""
        held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reception.brake.hold(lambda: None if held.done() else held.set_result(None))
        await held

    def _tell_ready(self, message: Any) -> dict[str, Any]:
        try:
            return {"ready": self._reception.find_lane(message.name, message.version or None).pool.inviting}
        except NothingUpError:
            return {"ready": False}

    def _describe(self, message: Any) -> dict[str, Any]:
        return self._reception.describe(message.name, message.version or None)


def _wrap(name: str, answer: Callable[[Any], dict[str, Any]]) -> Endpoint:
    """Let a function from a request to the fields of its answer be a method."""
    request, response = find_message(f"{name}Request"), find_message(f"{name}Response")

    async def handle(body: bytes, context: Any) -> bytes:
        try:
            reply = Reply(body=response(**answer(request.FromString(body))).SerializeToString())
        except Exception as exc:  # noqa: BLE001  # every one becomes an answer, and a bug is logged there
            reply = _explain(name, exc)
        return await _end(context, reply)

    return handle


async def _end(context: Any, reply: Reply) -> bytes:
    if reply.code != grpc.StatusCode.OK:
        await context.abort(reply.code, reply.details, reply.metadata)
    if reply.metadata:
        context.set_trailing_metadata(reply.metadata)
    return reply.body


def _explain(method: str, exc: Exception) -> Reply:
    if isinstance(exc, LastgoodError):
        return explain(exc)
    if isinstance(exc, DecodeError):
        return refuse(grpc.StatusCode.INVALID_ARGUMENT, f"The body is no {method}Request: {exc}.")
    number = secrets.token_hex(4)
    log.error("%s failed (%s)", method, number, exc_info=exc)
    return refuse(grpc.StatusCode.INTERNAL, f"Something broke here; the log has it as {number}.")
