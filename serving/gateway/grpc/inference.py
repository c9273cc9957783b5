"""Inference requests over gRPC: from a message to the queue, and the answer back into one."""

import asyncio
from collections.abc import Mapping
from typing import Any

from lastgood.serving.gateway.errors import BadRequestError
from lastgood.serving.gateway.grpc.codec import read_call, write_answer
from lastgood.serving.gateway.grpc.statuses import REASONS, Reply, name_origin, refuse
from lastgood.serving.gateway.inference import Inference
from lastgood.serving.gateway.pool.batch import Outputs
from lastgood.serving.gateway.pool.pending import Reason
from lastgood.serving.gateway.protocol.codec import Codec
from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.telemetry.context import Trace


class GrpcInference(Inference):
    """A request that came over gRPC and is answered there; ``reply``, done at its end, and ``call_trace`` are to be set at once."""

    __slots__ = ("call_trace", "reply")

    reply: asyncio.Future[Reply]
    call_trace: Trace | None

    @property
    def trace(self) -> Trace | None:
        """The trace it belongs to, if any."""
        return self.call_trace

    def write(self, codec: Codec, outputs: Outputs, start: int, stop: int) -> None:
        """Answer with the outputs, copied: they are valid during this call only."""
        pool = self.runs_on.pool
        body = write_answer((pool.model, pool.number), codec.signature, self.request_id, outputs, start, stop, self.call)
        self._end(Reply(name_origin(self.runs_on), body))

    def write_refusal(self, reason: Reason, text: str) -> None:
        """Answer with the reason's status."""
        self._end(refuse(REASONS[reason], text, name_origin(self.runs_on)))

    def _end(self, reply: Reply) -> None:
        if not self.reply.done():  # else who waited for it is gone
            self.reply.set_result(reply)


def infer(
    reception: Reception, message: Any, metadata: Mapping[str, str], left_seconds: float | None, trace: Trace | None = None
) -> GrpcInference:
    """
    Queue a request.

    Args:
        reception: Where it goes.
        message: A `ModelInferRequest`.
        metadata: What the client sent beside it, by name.
        left_seconds: How long the client waits, None where it does not say.
        trace: The trace that the call belongs to, if any.

    Raises:
        BadRequestError: It cannot be right; names the field.
        NotFoundError: There is no such model or version.
        NothingUpError: Nothing of it is up.
        BusyError: Too much waits; it is to be tried again.
    """
    given = metadata.get("x-lastgood-traffic")
    traffic = reception.label_traffic(None if given is None else given.encode())
    lane = reception.deal(message.model_name, message.model_version or None)
    desk = reception.admit(lane, traffic)
    signature = desk.codec.signature
    try:
        call = read_call(message, signature)
        nothing = signature.answer_nothing() if call.rows == 0 else None
    except BadRequestError:
        desk.meter.count(traffic, "bad_request")
        raise
    if left_seconds is not None:
        call.timeout_seconds = min(call.timeout_seconds, left_seconds)
    request_id = call.id or reception.make_id()
    slice_name = metadata.get("x-lastgood-slice")
    part = "" if slice_name is None else reception.label_slice(lane.pool.model, slice_name.encode())
    inference = GrpcInference(lane, call, request_id, desk, traffic, part)
    inference.reply, inference.call_trace = asyncio.get_running_loop().create_future(), trace
    if nothing is not None:
        inference.answer(nothing, 0, 0)
    else:
        reception.take(inference)
    return inference
