"""One request on its way to a replica and back, whatever protocol it came by."""

import logging
from typing import TYPE_CHECKING, Literal

import numpy as np

from lastgood.serving.gateway.charges import Incident
from lastgood.serving.gateway.route import Lane
from lastgood.serving.gateway.telemetry.context import Trace, describe
from lastgood.serving.replica.slots import Array

if TYPE_CHECKING:
    from lastgood.serving.gateway.pool.batch import Outputs

log = logging.getLogger(__name__)
# Why a request got no answer; broken is a bug of the gateway.
Reason = Literal["failed", "invalid", "unfit", "timeout", "died", "stopped", "broken", "disconnected"]
Key = tuple[tuple[int, ...], ...]


class Run:
    """One computation of a batch, which its requests know of when the batch is gone; monotonic times in seconds, 0 where it is not yet."""

    __slots__ = ("answered", "dispatched", "rows", "seconds")

    def __init__(self, rows: int) -> None:
        """Be of so many rows, and not dispatched."""
        self.rows = rows
        self.dispatched = 0.0
        self.answered = 0.0
        self.seconds = 0.0  # in the replica


class Part:
    """A half of a batch that failed: its requests run together once more, so that a bad one is found in few runs."""

    __slots__ = ("incident",)

    def __init__(self, incident: Incident) -> None:
        """Belong to what happened to the whole batch: one event, however many of its requests fail."""
        self.incident = incident


class Pending:
    """
    One request: its inputs, its deadline, and whom it is charged to.

    ``lane`` is the one it was dealt and is charged to; ``runs_on`` is the one whose replicas answer it, another only
    after a replica died. A subclass says in `answered` and `refused` what becomes of it; one of them is called, once.
    """

    __slots__ = (
        "arrived",
        "counted",
        "deadline",
        "finished",
        "hurried",
        "inputs",
        "key",
        "lane",
        "nbytes",
        "part",
        "request_id",
        "retried",
        "rows",
        "run",
        "runs_on",
        "serial",
        "slice",
        "traffic",
    )

    def __init__(self, lane: Lane, inputs: tuple[Array, ...], key: Key | None, rows: int, arrived: float, deadline: float) -> None:
        """
        Make a request that is ready to be queued.

        Args:
            lane: Dealt by the route.
            inputs: In the order of the content's inputs; "batch …" where ``key`` is given.
            key: Requests of one key can be joined along the first axis; None cannot be joined.
            rows: Length of that axis; 1 where there is none.
            arrived: Monotonic time in seconds.
            deadline: Monotonic time after which it counts as failed.
        """
        self.lane = lane
        self.runs_on = lane
        self.inputs = inputs
        self.key = key
        self.rows = rows
        # Texts are counted by their pointers: near enough for limits.
        self.nbytes = inputs[0].nbytes if len(inputs) == 1 else sum([array.nbytes for array in inputs])
        self.arrived = arrived
        self.deadline = deadline
        self.run: Run | None = None  # the last one it was part of
        self.finished = False
        self.counted = False  # whether it is in its lane's tally
        self.retried = False  # whether a replica died with it
        self.hurried = False  # its client set an earlier deadline than the version's: that it passes is no fault of the version
        # What the observer is told of it.
        self.request_id = ""
        self.traffic = "production"
        self.slice = ""
        self.serial = 0  # its number where a shadow has a copy, and the copy's too
        self.part: Part | None = None  # runs with these and no others since the batch it was in failed

    def has_finite_inputs(self) -> bool:
        """Say whether no input holds NaN or infinity, so that an answer that does is the model's doing."""
        return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in self.inputs)

    @property
    def trace(self) -> Trace | None:
        """The trace it belongs to, if any."""
        return None

    def answered(self, outputs: "Outputs", start: int, stop: int) -> None:
        """Take the answer: rows ``start`` to ``stop``, valid during this call only."""
        raise NotImplementedError

    def refused(self, reason: Reason, message: str) -> None:
        """Take the reason why there is none."""
        raise NotImplementedError

    def answer(self, outputs: "Outputs", start: int, stop: int) -> None:
        """Finish with an answer; a bug in writing it must not stop the others of the batch."""
        self.finished = True
        try:
            self.answered(outputs, start, stop)
        except Exception:
            pool = self.runs_on.pool
            log.exception("An answer of %s@%s could not be written", pool.model, pool.number, extra=describe(self.trace))
            self.refused("broken", "the gateway could not write the answer; its log says more")

    def refuse(self, reason: Reason, message: str) -> None:
        """Finish without one."""
        self.finished = True
        self.refused(reason, message)

    def abandon(self, gone: bool = True) -> None:  # noqa: FBT001, FBT002 - as `Request.on_disconnect` has it
        """
        Finish because the client is gone; this never counts against a version.

        One that sends no more may be gone or read on. What is being computed for it goes on; what still waits gives way, for under
        load most of those clients have lost their patience.
        """
        if not self.finished and (gone or not self.counted):
            self.refuse("disconnected", "the client closed the connection while the request waited")
