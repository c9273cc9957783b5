"""
What waits for one version: handed to its replicas in batches, and their answers to whoever waits.

Promise: a request that was submitted is finished exactly once, at its deadline at the latest.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Final

from lastgood.registry.content import Content
from lastgood.serving.backends.replica import Replica
from lastgood.serving.gateway.charges import find_lanes
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.meters.meters import VersionMeter
from lastgood.serving.gateway.pool.answering import charge_slow, hand_out
from lastgood.serving.gateway.pool.batch import Batch
from lastgood.serving.gateway.pool.batcher import Batcher
from lastgood.serving.gateway.pool.crew import Crew
from lastgood.serving.gateway.pool.deadlines import ABSENT_SECONDS, end_late, postpone, refuse_late
from lastgood.serving.gateway.pool.pace import Pace
from lastgood.serving.gateway.pool.pending import Pending, Reason
from lastgood.serving.gateway.pool.promises import OutputCheck
from lastgood.serving.gateway.pool.worker import Worker
from lastgood.serving.gateway.route import Lane
from lastgood.serving.gateway.sleep.bed import OVERSLEPT, Bed
from lastgood.serving.observer.wire import Outcome
from lastgood.serving.replica.errors import SlotError
from lastgood.serving.replica.slots import Array

_NOT_UP: Final = "no replica of the version was up while it waited; try again"
# Is shown each batch that was answered: the batch, its outputs (valid during the call), and what became of each request.
OnBatch = Callable[[Batch, Sequence[Array], Sequence[Outcome], bool], None]


class Dispatcher:
    """The part of a pool that every request goes through; ``_crew`` is to be set before the first one."""

    _crew: Crew

    def __init__(self, content: Content, limits: PoolLimits, on_batch: OnBatch | None) -> None:
        """
        Begin without a request.

        Args:
            content: What the version is.
            limits: Queue, batches and times.
            on_batch: Called with each batch that was answered, and whether requests are joined along the first axis.
        """
        self.limits = limits
        self.meter = VersionMeter()
        self.joins = content.batching == 0 and all(spec.shape and spec.shape[0] == -1 for spec in content.inputs)
        self.bed = Bed()
        self.used_at = -math.inf  # monotonic time in seconds at which a batch was last handed to a replica
        self._on_batch = on_batch
        self._batcher = Batcher(limits)
        self._pace = Pace()
        self._check = OutputCheck(content.outputs)
        self._loop = asyncio.get_running_loop()
        self._flush_due = False
        self._lone = True  # whether the last batch was one request
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0  # monotonic time in seconds
        self._sweep_seconds = min(0.25, limits.deadline_seconds / 10)
        self._drained: asyncio.Future[None] | None = None
        self._up_at = -math.inf  # monotonic time in seconds since when a replica is up; infinite after the last one died

    def want(self) -> None:
        """Be told, again and again, that requests wait while the version sleeps."""

    @property
    def busy(self) -> bool:
        """Whether something waits or is computed."""
        return self._batcher.peek() is not None or self._crew.busy

    def _settle(self) -> None:
        if self._drained is not None and not self._drained.done() and not self.busy:
            self._drained.set_result(None)

    def _refuse_all(self, reason: Reason, message: str) -> None:
        held = [pending for worker in self._crew for batch in worker.in_flight.values() for pending in batch.pendings]
        for pending in (*self._batcher.remove_all(), *held):
            if not pending.finished:
                pending.refuse(reason, message)

    # --- requests ------------------------------------------------------------------------------------------------

    def submit(self, pending: Pending) -> None:
        """Queue one request; `Pending.answered` or `Pending.refused` is called exactly once, perhaps from here."""
        self._batcher.put(pending)
        self._wake()
        if self._lone and self._crew.idle:  # it is likely alone again: not even to the end of this tick need it wait
            self._flush()

    def _wake(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        if self._sweep is None:
            self._plan_sweep()

    def _plan_sweep(self) -> None:
        self._sweep_due = time.monotonic() + self._sweep_seconds
        self._sweep = self._loop.call_later(self._sweep_seconds, self._enforce_deadlines)

    def _flush(self) -> None:
        self._flush_due = False
        if self._crew.closed:
            self._refuse_all("stopped", "it was stopped")
            return
        batcher = self._batcher
        while (first := batcher.peek()) is not None:
            worker = self._crew.choose(exclusive=first.retried)
            if worker is None:
                if self.bed.asleep:
                    self.want()
                break
            now = time.monotonic()
            row_seconds = self._pace.compute_seconds
            batch = batcher.take(now + worker.wait_seconds(now, row_seconds), row_seconds, idle=not worker.in_flight)
            if batch is not None:
                self._dispatch(worker, batch, now)
        if late := batcher.take_late():
            self._refuse_late(late)
        if self._drained is not None:
            self._settle()

    def _dispatch(self, worker: Worker, batch: Batch, now: float) -> None:
        run = batch.run
        self._lone = len(batch.pendings) == 1
        run.dispatched = self.used_at = now
        try:
            used = worker.load(batch)
        except (SlotError, OSError) as exc:
            # No replica saw it: this is about the request, or this host's memory, not about the version.
            for pending in batch.pendings:
                pending.refuse("stopped", f"The request cannot be handed to a replica: {exc}")
            return
        meter, lanes = self.meter, list[Lane]()
        for pending in batch.pendings:
            pending.run = run
            if pending.counted:
                continue
            pending.counted = True
            lane = pending.lane
            lane.tally.requests += 1
            lanes.append(lane)
            meter.role(pending.runs_on.role).queue_seconds.observe(now - pending.arrived)
        for lane in find_lanes(lanes):
            lane.tally.batches += 1
        meter.role(batch.pendings[0].runs_on.role).batch_rows.observe(batch.rows)
        worker.send(batch, used)

    # --- answers (called by the replica's connection) ------------------------------------------------------------

    def on_done(self, replica: Replica, number: int, used: int, seconds: float, *, flagged: bool) -> None:
        """Hand the answers of a batch out."""
        worker = self._crew.find(replica)
        batch = None if worker is None else worker.in_flight.get(number)
        if worker is None or batch is None or not math.isfinite(seconds):
            replica.kill(f"answered batch {number}, which it did not have")
            return
        try:
            arrays = worker.replica.slots[batch.slot].read(used)
            flags = arrays.pop() if flagged else None
        except (SlotError, IndexError) as exc:
            replica.kill(f"gave an unreadable answer ({exc})")
            return
        worker.finish(number)
        now = worker.answered_at
        batch.run.answered, batch.run.seconds = now, seconds
        self._pace.note(now, self.limits.weigh(batch.rows), seconds, busy=len(self._batcher) > 0)
        self.meter.role(batch.pendings[0].runs_on.role).compute_seconds.observe(seconds)
        self.meter.keep_seconds_per_row(seconds / batch.rows)
        broken = self._check.find_broken(arrays, batch.rows if self.joins else None)
        outcomes = hand_out(batch, arrays, flags, broken, joins=self.joins)
        charge_slow(batch, seconds)
        if self._on_batch is not None and broken is None:
            self._on_batch(batch, arrays, outcomes, self.joins)
        self._flush()

    def on_failed(self, replica: Replica, number: int, text: str) -> None:
        """Run the halves of a batch that failed, or refuse the request that failed alone."""
        worker = self._crew.find(replica)
        batch = None if worker is None else worker.in_flight.get(number)
        if worker is None or batch is None:
            replica.kill(f"answered batch {number}, which it did not have")
            return
        worker.finish(number)
        left = [pending for pending in batch.pendings if not pending.finished]
        if len(batch.pendings) > 1:
            self._batcher.put_back_halves(left, batch.incident)
        else:
            for pending in left:
                batch.incident.charge(pending.lane, "failed")
                pending.refuse("failed", f"the model failed on this request: {text[:500].rstrip('.')}")
        self._flush()

    def _refuse_late(self, late: list[Pending]) -> None:
        # That it slept is no fault of the version; and that none of its replicas was up was charged as their deaths.
        for pending in late:
            if pending.arrived < self.bed.left_at:
                pending.refuse("stopped", OVERSLEPT)
            elif pending.arrived < self._up_at:
                pending.refuse("stopped", _NOT_UP)
        refuse_late([pending for pending in late if not pending.finished], self.limits.deadline_seconds)

    def _enforce_deadlines(self) -> None:
        self._sweep = None
        now, seconds = time.monotonic(), self.limits.deadline_seconds
        if now - self._sweep_due > ABSENT_SECONDS:
            # This process was stopped, or got no core: what came back meanwhile lies there unread, and nobody is to be blamed for it.
            postpone(self._batcher, self._crew, now - self._sweep_due)
        unfinished = [pending for pending in self._batcher if not pending.finished]
        self._batcher.keep([pending for pending in unfinished if pending.deadline > now])
        self._refuse_late([pending for pending in unfinished if pending.deadline <= now])
        end_late(self._crew, now, seconds)
        self._settle()
        if self.busy:
            self._plan_sweep()
