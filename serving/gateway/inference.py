"""An inference request from the outside, from its decoded body to its answer, whatever protocol writes that."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lastgood.serving.gateway.meters.meters import Outcome, RoleMeter
from lastgood.serving.gateway.pool.batch import Outputs
from lastgood.serving.gateway.pool.pending import Pending, Reason
from lastgood.serving.gateway.protocol.codec import Codec
from lastgood.serving.gateway.protocol.signature import Call
from lastgood.serving.gateway.route import Lane

if TYPE_CHECKING:
    from lastgood.serving.gateway.pool.pool import ReplicaPool

# What metrics call the reason why there is no answer.
_OUTCOMES: Final[dict[Reason, Outcome]] = {
    "failed": "failed",
    "invalid": "invalid",
    "unfit": "bad_request",
    "timeout": "timeout",
    "died": "failed",
    "stopped": "refused",
    "broken": "failed",
    "disconnected": "disconnected",
}


class Desk:
    """What one version's requests in one role go through, found once for all of them."""

    __slots__ = ("codec", "find", "meter", "pool", "seconds")

    def __init__(self, codec: Codec, meter: RoleMeter, pool: "ReplicaPool | None", seconds: float, find: Callable[[Lane], "Desk"]) -> None:
        """
        Keep what was found.

        Args:
            codec: Writes the answers.
            meter: Counts them.
            pool: The version's replicas; None where they are gone and only answers are to come.
            seconds: How long an answer may take.
            find: Gives the desk of another lane, should that one answer.
        """
        self.codec = codec
        self.meter = meter
        self.pool = pool
        self.seconds = seconds
        self.find = find


class Inference(Pending):
    """A request whose answer somebody waits for; a subclass for each protocol writes it."""

    __slots__ = ("call", "desk")

    def __init__(
        self,
        lane: Lane,
        call: Call,
        request_id: str,
        desk: Desk,
        traffic: str,
        slice_name: str = "",
    ) -> None:
        """
        Make a request that is ready to be queued; its deadline counts from now.

        Args:
            lane: Dealt by the route.
            call: The decoded body.
            request_id: For the answer.
            desk: Of the lane.
            traffic: Label for metrics.
            slice_name: Part of the traffic that the client says it belongs to.
        """
        now, seconds = time.monotonic(), desk.seconds
        hurried = call.timeout_seconds < seconds
        super().__init__(lane, call.inputs, call.key, call.rows, now, now + (call.timeout_seconds if hurried else seconds))
        self.hurried = hurried
        self.request_id = request_id
        self.traffic = traffic
        self.slice = slice_name
        self.call = call
        self.desk = desk

    def write(self, codec: Codec, outputs: Outputs, start: int, stop: int) -> None:
        """Write the answer: rows ``start`` to ``stop``, valid during this call only."""
        raise NotImplementedError

    def write_refusal(self, reason: Reason, text: str) -> None:
        """Write why there is none."""
        raise NotImplementedError

    def answered(self, outputs: Outputs, start: int, stop: int) -> None:
        """Write the answer and count it."""
        desk = self._serving_desk()
        self.write(desk.codec, outputs, start, stop)
        meter = desk.meter
        meter.count(self.traffic, "ok")
        meter.request_seconds.observe(time.monotonic() - self.arrived)

    def refused(self, reason: Reason, message: str) -> None:
        """Write why there is no answer, and count that."""
        pool = self.runs_on.pool
        self._serving_desk().meter.count(self.traffic, _OUTCOMES[reason])
        self.write_refusal(reason, f"{pool.model}@{pool.number}: {message}.")

    def drop(self) -> None:
        """Finish without a word: whoever made it answers otherwise."""
        self.finished = True
        self.desk.meter.count(self.traffic, "refused")

    def _serving_desk(self) -> Desk:
        return self.desk if self.runs_on is self.lane else self.desk.find(self.runs_on)


class Copy(Pending):
    """A shadow's copy of a request: computed, counted and observed, and never returned."""

    __slots__ = ("_meter",)

    def __init__(self, original: Inference, lane: Lane, meter: RoleMeter) -> None:
        """Copy a request that was dealt to the lane this one shadows."""
        super().__init__(lane, original.inputs, original.key, original.rows, original.arrived, original.deadline)
        self._meter = meter
        self.request_id, self.serial = original.request_id, original.serial
        self.traffic, self.slice = original.traffic, original.slice
        self.hurried = original.hurried

    def answered(self, outputs: Outputs, start: int, stop: int) -> None:
        """Count it; the observer is shown the batch."""
        del outputs, start, stop
        self._meter.count(self.traffic, "ok")
        self._meter.request_seconds.observe(time.monotonic() - self.arrived)

    def refused(self, reason: Reason, message: str) -> None:
        """Count it."""
        del message
        self._meter.count(self.traffic, _OUTCOMES[reason])
