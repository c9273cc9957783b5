"""Inference requests over REST: from a whole HTTP request to the queue, and the answer back into HTTP."""

from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

from lastgood.errors import LastgoodError
from lastgood.serving.gateway.errors import BadRequestError, BusyError
from lastgood.serving.gateway.http.messages import JSON, Request, Response, error_response
from lastgood.serving.gateway.http.router import find_status
from lastgood.serving.gateway.inference import Inference
from lastgood.serving.gateway.pool.batch import Outputs
from lastgood.serving.gateway.pool.pending import Reason
from lastgood.serving.gateway.protocol.binary import BINARY, HEAD_BYTES
from lastgood.serving.gateway.protocol.codec import Codec
from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.telemetry.context import Trace

RETRY: Final = b"retry-after: 1\r\n"
_STATUSES: Final[dict[Reason, int]] = {
    "failed": 502,
    "invalid": 502,
    "unfit": 400,
    "timeout": 504,
    "died": 503,
    "stopped": 503,
    "broken": 500,
    "disconnected": 503,  # read by a client that has closed its sending side only
}


class Address(NamedTuple):
    """What the head of an inference request says, which many requests share."""

    model: str
    version: str | None  # where the path names one
    traffic: str
    slice: bytes | None
    coding: bytes | None
    head_bytes: bytes | None


class RestInference(Inference):
    """A request that came over REST and is answered there; ``request`` is to be set at once."""

    __slots__ = ("request",)
    request: Request

    @property
    def trace(self) -> Trace | None:
        """The request's."""
        return self.request.trace

    def write(self, codec: Codec, outputs: Outputs, start: int, stop: int) -> None:
        """Answer 200."""
        body, head_bytes = codec.answers.write(self.request_id, outputs, start, stop, self.call)
        origin = codec.name_origin(self.runs_on.role)
        if head_bytes is None:
            self.request.respond(Response(200, body, JSON, origin))
        else:
            self.request.respond(Response(200, body, BINARY, b"%s%s: %d\r\n" % (origin, HEAD_BYTES, head_bytes)))

    def write_refusal(self, reason: Reason, text: str) -> None:
        """Answer with the reason's status, unless nobody is there."""
        if reason == "disconnected" and self.request.connection is None:
            return
        status = _STATUSES[reason]
        origin = self._serving_desk().codec.name_origin(self.runs_on.role)
        self.request.respond(error_response(status, text, extra=origin + (RETRY if status == 503 else b"")))


def read_address(headers: Mapping[bytes, bytes], params: Mapping[str, str], traffic: str) -> Address:
    """Give what the head of an inference request says; ``traffic`` is metrics' label for it."""
    get = headers.get
    slice_name, coding, head_bytes = get(b"x-lastgood-slice"), get(b"content-encoding"), get(HEAD_BYTES)
    return Address(params["model"], params.get("version"), traffic, slice_name, coding, head_bytes)


def infer(reception: Reception, request: Request, address: Address) -> None:
    """Queue a request, or refuse it."""
    model, version, traffic, slice_name, coding, head_bytes = address
    try:
        lane = reception.deal(model, version)
        desk = reception.admit(lane, traffic)
    except BusyError as exc:
        request.body = b""  # it may be large, and is not read
        reception.brake.hold(partial(request.respond, refuse(exc)))
        return
    except LastgoodError as exc:
        request.respond(refuse(exc))
        return
    codec = desk.codec
    try:
        call = codec.decode(request.body, coding, head_bytes)
        nothing = codec.signature.answer_nothing() if call.rows == 0 else None
    except BadRequestError as exc:
        desk.meter.count(traffic, "bad_request")
        request.respond(error_response(400, str(exc)))
        return
    request_id = call.id or reception.make_id()
    part = "" if slice_name is None else reception.label_slice(model, slice_name)
    inference = RestInference(lane, call, request_id, desk, traffic, part)
    inference.request = request
    if request.began:  # telemetry wants to know
        request.pending = inference
    if nothing is not None:
        inference.answer(nothing, 0, 0)
        return
    request.on_disconnect = inference.abandon
    try:
        reception.take(inference)
    except BusyError as exc:
        reception.brake.hold(partial(request.respond, refuse(exc)))


def refuse(error: LastgoodError) -> Response:
    """Give the answer for an error; what may pass is to be tried again."""
    extra = b"retry-after: %d\r\n" % error.retry_seconds if isinstance(error, BusyError) else RETRY if error.transient else b""
    return error_response(find_status(error), str(error), extra=extra)
