"""What becomes of requests whose deadline passes, and of replicas that compute for longer than any request may take."""

from collections.abc import Iterable
from typing import Final

from lastgood.durations import tell_seconds
from lastgood.serving.gateway.charges import Incident, find_lanes
from lastgood.serving.gateway.pool.pending import Pending
from lastgood.serving.gateway.pool.worker import Worker

ABSENT_SECONDS: Final = 0.5  # a look that comes later than this was not just a busy loop's


def refuse_late(late: list[Pending], seconds: float) -> None:
    """
    Refuse requests that waited in vain: one incident, for they waited for one reason.

    Args:
        late: Not finished, and in no replica's hands.
        seconds: How long an answer may take.
    """
    incident = Incident()
    owed = [pending for pending in late if not pending.hurried]
    for lane in find_lanes(pending.lane for pending in owed if not pending.counted):
        lane.tally.batches += 1
    for pending in owed:
        pending.lane.tally.requests += not pending.counted
        pending.counted = True
        incident.charge(pending.lane, "failed")
    for pending in late:
        pending.refuse("timeout", _explain(pending, seconds))


def end_late(workers: Iterable[Worker], now: float, seconds: float) -> None:
    """
    Refuse requests that replicas compute for too long, and end a replica that computes one batch for longer than any may take.

    Args:
        workers: Of one version.
        now: Monotonic time in seconds.
        seconds: How long an answer may take.
    """
    for worker in workers:
        for batch in worker.in_flight.values():
            for pending in batch.pendings:
                if not pending.finished and pending.deadline <= now:
                    if not pending.hurried:
                        batch.incident.charge(pending.lane, "failed")
                    pending.refuse("timeout", _explain(pending, seconds))
        oldest = next(iter(worker.in_flight.values()), None)
        if oldest is not None and worker.began_at(oldest) + seconds <= now:
            worker.replica.kill(f"computed one batch for over {tell_seconds(seconds)} and was ended")


def postpone(waiting: Iterable[Pending], workers: Iterable[Worker], seconds: float) -> None:
    """Let everything be late by so many seconds: this process did not run meanwhile."""
    for pending in waiting:
        pending.deadline += seconds
    for worker in workers:
        worker.answered_at += seconds
        for batch in worker.in_flight.values():
            batch.run.dispatched += seconds
            for pending in batch.pendings:
                pending.deadline += seconds


def _explain(pending: Pending, seconds: float) -> str:
    allowed = pending.deadline - pending.arrived if pending.hurried else seconds
    return f"no answer within {tell_seconds(allowed)}" + (", the time-out of the request" if pending.hurried else "")
