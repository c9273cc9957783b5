"""An inference request over REST, from its decoded body to its written answer."""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from lastgood.serving.gateway.batcher import Answers, Pending, Reason
from lastgood.serving.gateway.binary import BINARY, HEAD_BYTES
from lastgood.serving.gateway.messages import JSON, Request, Response, error_response
from lastgood.serving.gateway.meters import Outcome, RoleMeter
from lastgood.serving.gateway.protocol import Codec
from lastgood.serving.gateway.route import Lane
from lastgood.serving.gateway.signature import Call

RETRY: Final = b"retry-after: 1\r\n"
# Why there is no answer: the status, and what metrics call it.
_REASONS: Final[dict[Reason, tuple[int, Outcome]]] = {
    "failed": (502, "failed"),
    "invalid": (502, "invalid"),
    "unfit": (400, "bad_request"),
    "timeout": (504, "timeout"),
    "died": (503, "failed"),
    "stopped": (503, "refused"),
    "broken": (500, "failed"),
    "disconnected": (503, "disconnected"),  # read by a client that has closed its sending side only
}


class Desk(NamedTuple):
    """What writes and counts one version's answers in one role."""

    codec: Codec
    meter: RoleMeter


class Inference(Pending):
    """A request that came over REST and is answered there."""

    __slots__ = ("_call", "_desk", "_find_desk", "_request")

    def __init__(
        self,
        lane: Lane,
        call: Call,
        arrived: float,
        deadline: float,
        request: Request,
        request_id: str,
        desk: Desk,
        find_desk: Callable[[Lane], Desk],
        traffic: str,
        slice_name: str = "",
    ) -> None:
        """
        Make a request that is ready to be queued.

        Args:
            lane: Dealt by the route.
            call: The decoded body.
            arrived: Loop time in seconds.
            deadline: Loop time after which it counts as failed.
            request: What is to be answered.
            request_id: For the answer.
            desk: Of the lane.
            find_desk: Gives the desk of another lane, should that one answer.
            traffic: Label for metrics.
            slice_name: Part of the traffic that the client says it belongs to.
        """
        super().__init__(lane, call.inputs, call.key, call.rows, arrived, deadline)
        self._request = request
        self.request_id = request_id
        self.traffic = traffic
        self.slice = slice_name
        self.finite = call.finite
        self._call = call
        self._desk = desk
        self._find_desk = find_desk

    def answered(self, outputs: Answers, start: int, stop: int) -> None:
        """Write the answer and count it."""
        codec, meter = self._serving_desk()
        body, head_bytes = codec.encode(self.request_id, outputs, start, stop, self._call)
        origin = _name_origin(self.runs_on)
        if head_bytes is None:
            self._request.respond(Response(200, body, JSON, origin))
        else:
            self._request.respond(Response(200, body, BINARY, b"%s%s: %d\r\n" % (origin, HEAD_BYTES, head_bytes)))
        meter.count(self.traffic, "ok")
        meter.request_seconds.observe(asyncio.get_running_loop().time() - self.arrived)

    def refused(self, reason: Reason, message: str) -> None:
        """Write why there is no answer, and count that."""
        lane = self.runs_on
        status, outcome = _REASONS[reason]
        self._serving_desk().meter.count(self.traffic, outcome)
        if reason == "disconnected" and self._request.connection is None:
            return
        text = f"{lane.pool.model}@{lane.pool.number}: {message}."
        self._request.respond(error_response(status, text, extra=_name_origin(lane) + (RETRY if status == 503 else b"")))

    def _serving_desk(self) -> Desk:
        return self._desk if self.runs_on is self.lane else self._find_desk(self.runs_on)


class Copy(Pending):
    """A shadow's copy of a request: computed, counted and observed, and never returned."""

    __slots__ = ("_meter",)

    def __init__(self, original: Inference, lane: Lane, meter: RoleMeter) -> None:
        """Copy a request that was dealt to the lane this one shadows."""
        super().__init__(lane, original.inputs, original.key, original.rows, original.arrived, original.deadline)
        self._meter = meter
        self.request_id, self.serial = original.request_id, original.serial
        self.traffic, self.slice, self.finite = original.traffic, original.slice, original.finite

    def answered(self, outputs: Answers, start: int, stop: int) -> None:
        """Count it; the observer is shown the batch."""
        del outputs, start, stop
        self._meter.count(self.traffic, "ok")
        self._meter.request_seconds.observe(asyncio.get_running_loop().time() - self.arrived)

    def refused(self, reason: Reason, message: str) -> None:
        """Count it."""
        del message
        self._meter.count(self.traffic, _REASONS[reason][1])


def _name_origin(lane: Lane) -> bytes:
    return b"x-lastgood-version: %d\r\nx-lastgood-role: %s\r\n" % (lane.pool.number, lane.role.encode())
