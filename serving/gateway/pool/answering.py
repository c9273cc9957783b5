"""Handing out a batch's answers: to each request its own rows, to each lane what it is to be charged with."""

from collections.abc import Sequence

from lastgood.serving.gateway.charges import find_lanes
from lastgood.serving.gateway.pool.batch import Batch, Outputs
from lastgood.serving.observer.wire import Outcome
from lastgood.serving.replica.slots import Array


def hand_out(batch: Batch, arrays: Sequence[Array], flags: Array | None, broken: str | None, *, joins: bool) -> list[Outcome]:
    """
    Finish every request of a batch that is not finished yet.

    Args:
        batch: What was asked.
        arrays: The outputs, valid until this returns.
        flags: By row, whether an output is not finite there; None where everything is finite.
        broken: What is wrong with the outputs as a whole, None if nothing is.
        joins: Whether the first axis is the batch's.

    Returns:
        What became of each request.
    """
    outputs = Outputs(arrays, batch.rows, joined=joins)
    # Where something is not finite and rows cannot be told apart, none is good.
    usable = broken is None and (flags is None or (joins and flags.size == batch.rows))
    outcomes: list[Outcome] = []
    stop = 0
    for pending in batch.pendings:
        start, stop = stop, stop + pending.rows
        good = usable and not pending.finished and (flags is None or not flags[start:stop].any())
        outcomes.append("late" if pending.finished else "ok" if good else "invalid")
        if good:
            pending.answer(outputs, start, stop)
        elif not pending.finished:
            if broken is None and not pending.has_finite_inputs():  # the client's doing, whoever is asked
                pending.refuse("unfit", "the inputs hold NaN or infinity, and so does the answer")
            else:
                batch.incident.charge(pending.lane, "invalid")
                pending.refuse("invalid", broken or "the model's answer is not finite (NaN or infinity)")
    return outcomes


def charge_slow(batch: Batch, seconds: float) -> None:
    """Charge the lanes for which a batch that was computed in so many seconds is slow."""
    # A lane whose replica died is not told how fast another version is.
    for lane in find_lanes(pending.lane for pending in batch.pendings if pending.runs_on is pending.lane):
        if seconds / batch.rows > lane.slow_limit_seconds:
            batch.incident.charge(lane, "slow")
