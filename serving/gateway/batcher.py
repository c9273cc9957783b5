"""
Requests on their way to a replica, and how they are joined into batches.

There is no timer: a request leaves at the end of the loop tick it came in while fewer than two batches are in
flight, so a lone request never waits, and batches grow by themselves under load.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

from lastgood.serving.gateway.charges import Incident
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.route import Lane
from lastgood.serving.replica.slots import Array

log = logging.getLogger(__name__)
# Why a request got no answer; broken is a bug of the gateway.
Reason = Literal["failed", "invalid", "unfit", "timeout", "died", "stopped", "broken", "disconnected"]
Key = tuple[tuple[int, ...], ...]
_SCAN_ROWS = 4  # how far to look for requests that fit, in multiples of the rows wanted


class Answers(Protocol):
    """The outputs of one batch."""

    def values(self, output: int, start: int, stop: int) -> list[object]:
        """Give the elements of rows ``start`` to ``stop``, row-major."""
        ...

    def shape(self, output: int, start: int, stop: int) -> list[int]:
        """Give the shape of rows ``start`` to ``stop``."""
        ...

    def part(self, output: int, start: int, stop: int) -> Array:
        """Give rows ``start`` to ``stop`` as they are, valid as long as the answer is."""
        ...


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
        "dispatched",
        "finished",
        "finite",
        "inputs",
        "key",
        "lane",
        "part",
        "request_id",
        "retried",
        "rows",
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
            arrived: Loop time in seconds.
            deadline: Loop time after which it counts as failed.
        """
        self.lane = lane
        self.runs_on = lane
        self.inputs = inputs
        self.key = key
        self.rows = rows
        self.arrived = arrived
        self.deadline = deadline
        self.dispatched = 0.0
        self.finished = False
        self.counted = False  # whether it is in its lane's tally
        self.retried = False  # whether a replica died with it
        self.finite = True  # whether no input holds NaN or infinity, so that an answer that does is the model's doing
        # What the observer is told of it.
        self.request_id = ""
        self.traffic = "production"
        self.slice = ""
        self.serial = 0  # its number where a shadow has a copy, and the copy's too
        self.part: Part | None = None  # runs with these and no others since the batch it was in failed

    def answered(self, outputs: Answers, start: int, stop: int) -> None:
        """Take the answer: rows ``start`` to ``stop``, valid during this call only."""
        raise NotImplementedError

    def refused(self, reason: Reason, message: str) -> None:
        """Take the reason why there is none."""
        raise NotImplementedError

    def answer(self, outputs: Answers, start: int, stop: int) -> None:
        """Finish with an answer; a bug in writing it must not stop the others of the batch."""
        self.finished = True
        try:
            self.answered(outputs, start, stop)
        except Exception:
            log.exception("An answer of %s@%s could not be written", self.runs_on.pool.model, self.runs_on.pool.number)
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


class Batch:
    """Requests that run as one, and what is charged of them together."""

    __slots__ = ("dispatched", "exclusive", "incident", "pendings", "rows", "slot")

    def __init__(self, pendings: list[Pending]) -> None:
        """Join requests of one key, or take one."""
        self.pendings = pendings
        self.rows = sum(pending.rows for pending in pendings)
        part = pendings[0].part
        self.incident = Incident() if part is None else part.incident
        # What a replica died with may kill the next one: nothing else shall be in its hands then.
        self.exclusive = pendings[0].retried
        self.slot = -1
        self.dispatched = 0.0

    @property
    def nbytes(self) -> int:
        """Count the bytes of the inputs."""
        return sum(map(_count_bytes, self.pendings))

    def tensors(self) -> list[tuple[Array, ...]]:
        """Give per input the parts to be joined."""
        return list(zip(*(pending.inputs for pending in self.pendings), strict=True))

    def spans(self) -> Iterator[tuple[Pending, int, int]]:
        """Give each request with the rows that are its own."""
        start = 0
        for pending in self.pendings:
            stop = start + pending.rows
            yield pending, start, stop
            start = stop


class Batcher:
    """The queue of one pool; it decides what is joined and does nothing else."""

    __slots__ = ("_limits", "_queue")

    def __init__(self, limits: PoolLimits) -> None:
        """Begin with an empty queue."""
        self._limits = limits
        self._queue: deque[Pending] = deque()

    def __len__(self) -> int:
        """Count what waits, abandoned requests included."""
        return len(self._queue)

    def __iter__(self) -> Iterator[Pending]:
        """Go through what waits, the next one first."""
        return iter(self._queue)

    def put(self, pending: Pending) -> None:
        """Queue a request."""
        self._queue.append(pending)

    def put_back_halves(self, pendings: list[Pending], incident: Incident) -> None:
        """Queue the requests of a batch that failed before all others, so that each half of them runs without the other."""
        half = (len(pendings) + 1) // 2
        for own in (pendings[:half], pendings[half:]):
            part = Part(incident)
            for pending in own:
                pending.part = part
        self.put_back(pendings)

    def put_back(self, pendings: list[Pending]) -> None:
        """Queue requests before all others, in their order."""
        self._queue.extendleft(reversed(pendings))

    def remove_all(self) -> list[Pending]:
        """Empty the queue and give what waited and is not finished."""
        waiting = [pending for pending in self._queue if not pending.finished]
        self._queue.clear()
        return waiting

    def keep(self, kept: list[Pending]) -> None:
        """Put these in the queue's place."""
        self._queue = deque(kept)

    def peek(self) -> Pending | None:
        """Give the next request without taking it; finished ones are dropped."""
        queue = self._queue
        while queue:
            if not queue[0].finished:
                return queue[0]
            queue.popleft()
        return None

    def take(self) -> Batch | None:
        """Give the next batch: the oldest request and those that fit to it, in the order they came."""
        first = self.peek()
        if first is None:
            return None
        queue = self._queue
        queue.popleft()
        limit = self._limits.batch_rows
        if first.part is not None and not first.retried:
            return Batch([first, *self._take_part(first.part)])
        if first.key is None or first.retried or first.rows >= limit or not queue:
            return Batch([first])
        taken, skipped = [first], []
        rows, nbytes = first.rows, _count_bytes(first)
        looks = limit * _SCAN_ROWS
        while queue and rows < limit and looks:
            looks -= 1
            pending = queue.popleft()
            if pending.finished:
                continue
            fits = pending.key == first.key and pending.part is None and not pending.retried and rows + pending.rows <= limit
            size = _count_bytes(pending) if fits else 0
            if fits and nbytes + size <= self._limits.batch_bytes:
                taken.append(pending)
                rows += pending.rows
                nbytes += size
            else:
                skipped.append(pending)
        if skipped:
            queue.extendleft(reversed(skipped))
        return Batch(taken)

    def _take_part(self, part: Part) -> Iterator[Pending]:
        # They were put back together and nothing is ever put between them.
        while self._queue and self._queue[0].part is part and not self._queue[0].retried:
            pending = self._queue.popleft()
            if not pending.finished:
                yield pending


def _count_bytes(pending: Pending) -> int:
    # Texts are counted by their pointers: near enough for a limit that only bounds joining.
    return sum(array.nbytes for array in pending.inputs)


class Outputs:
    """
    The outputs of one batch as the slot holds them.

    Elements become Python objects once for the whole batch, however many requests share it.
    """

    __slots__ = ("_joined", "_values", "arrays", "rows")

    def __init__(self, arrays: Sequence[Array], rows: int, *, joined: bool) -> None:
        """
        Wrap arrays that stay valid until every request of the batch was answered.

        Args:
            arrays: In the order of the content's outputs; "batch …" if ``joined``.
            rows: Rows of the batch.
            joined: Whether the first axis is the batch's.
        """
        self.arrays = arrays
        self.rows = rows
        self._joined = joined
        self._values: dict[int, list[object]] = {}

    def values(self, output: int, start: int, stop: int) -> list[object]:
        """Give the elements of rows ``start`` to ``stop``, row-major."""
        values = self._values.get(output)
        if values is None:
            values = self._values[output] = self.arrays[output].ravel().tolist()
        if not self._joined or stop - start == self.rows:
            return values
        width = len(values) // self.rows
        return values[start * width : stop * width]

    def shape(self, output: int, start: int, stop: int) -> list[int]:
        """Give the shape of rows ``start`` to ``stop``."""
        shape = list(self.arrays[output].shape)
        if self._joined:
            shape[0] = stop - start
        return shape

    def part(self, output: int, start: int, stop: int) -> Array:
        """Give rows ``start`` to ``stop`` as they are, valid as long as the answer is."""
        return self.arrays[output][start:stop] if self._joined else self.arrays[output]
