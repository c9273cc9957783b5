"""What is kept of one request that was answered: plain values, so that neither its body nor its tensors are."""

from typing import NamedTuple, Protocol

from lastgood.serving.gateway.pool.pending import Pending
from lastgood.serving.gateway.telemetry.context import Trace

_SHOWN = 512  # characters of a path or an id


class Seen(Protocol):
    """A request of any protocol, as telemetry sees it."""

    began: float  # monotonic time when it was whole
    trace: Trace | None
    pending: Pending | None  # of an inference request that was queued

    @property
    def method(self) -> str:
        """As sent."""
        ...

    @property
    def path(self) -> str:
        """As sent, without the query."""
        ...

    @property
    def tracestate(self) -> bytes:
        """The header's value, empty without one."""
        ...


class Work(NamedTuple):
    """An inference request's way through queue and replica; times are seconds after it began, None where it did not come that far."""

    model: str
    version: int
    role: str
    request_id: str
    rows: int
    queued: float
    dispatched: float | None
    computed: float | None  # when the answer was there
    compute_seconds: float | None  # in the replica, for the whole batch
    batch_rows: int | None


class Record(NamedTuple):
    """One request that was answered."""

    ended: float  # Unix time in seconds when the answer was written
    seconds: float  # since the request was whole
    method: str
    path: str
    status: int
    nbytes: int  # of the answer, with its head
    trace: Trace | None
    tracestate: bytes  # as sent
    work: Work | None


def make_record(seen: Seen, pending: Pending | None, status: int, nbytes: int, *, now: float, unix: float) -> Record:
    """
    Keep what is known of a request.

    Args:
        seen: The request.
        pending: Its part that was queued.
        status: Of the answer, as HTTP numbers them.
        nbytes: Of the answer.
        now: Monotonic time in seconds when the answer was written.
        unix: The same, as Unix time.
    """
    work = None if pending is None else _find_work(pending, seen.began)
    state = seen.tracestate if seen.trace is not None else b""
    return Record(unix, now - seen.began, seen.method[:_SHOWN], seen.path[:_SHOWN], status, nbytes, seen.trace, state, work)


def _find_work(pending: Pending, began: float) -> Work:
    lane, run = pending.runs_on, pending.run
    dispatched = computed = seconds = rows = None
    if run is not None:
        dispatched, rows = run.dispatched - began, run.rows
        if run.answered:
            computed, seconds = run.answered - began, run.seconds
    pool = lane.pool
    return Work(
        pool.model,
        pool.number,
        lane.role,
        pending.request_id[:_SHOWN],
        pending.rows,
        pending.arrived - began,
        dispatched,
        computed,
        seconds,
        rows,
    )
