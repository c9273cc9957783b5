"""
The requests for one version: they wait, are joined, handed to its replicas, and answered here.

Promises: a request that was submitted is finished exactly once, at its deadline at the latest; a replica's death is
one event, and what it had in its hands is tried once more elsewhere.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from lastgood.registry.content import Content
from lastgood.replicas import ReplicaSettings
from lastgood.serving.backends.process import ProcessBackend
from lastgood.serving.backends.replica import Backend, Launch, Replica
from lastgood.serving.gateway.batcher import Batch, Batcher, Outputs, Pending, Reason
from lastgood.serving.gateway.charges import Incident, find_lanes
from lastgood.serving.gateway.crew import Crew
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.meters import VersionMeter
from lastgood.serving.gateway.promises import check_outputs
from lastgood.serving.gateway.worker import Worker
from lastgood.serving.replica.errors import SlotError
from lastgood.serving.replica.slots import Array

log = logging.getLogger(__name__)
OnDeath = Callable[["ReplicaPool", str], None]
# Is shown each batch that was answered: the batch, its outputs (valid during the call), and per request whether it was answered.
OnBatch = Callable[[Batch, Sequence[Array], Sequence[bool], bool], None]


class ReplicaPool:
    """One version's replicas and the requests that wait for them; belongs to one event loop."""

    def __init__(
        self,
        model: str,
        number: int,
        digest: str,
        content: Content,
        folder: Path,
        *,
        backend: Backend | None = None,
        program: Sequence[str] | None = None,
        generation: int = 0,
        serving: ReplicaSettings | None = None,
        slots: int = 2,
        limits: PoolLimits | None = None,
        on_death: OnDeath | None = None,
        on_batch: OnBatch | None = None,
    ) -> None:
        """
        Prepare; `start` starts.

        Args:
            model: Name of the model.
            number: Version.
            digest: Of the content; the replica checks it and every file it loads.
            content: What the version is.
            folder: Where its files are.
            backend: Where replicas run; default: child processes.
            program: Another replica program than the product's, as an argument list; how to reach the gateway is appended.
            generation: Of the route table when the version was asked for.
            serving: How many replicas, and how each one runs.
            slots: Batches in flight for each: one computed, the next one ready.
            limits: Queue, batches and times.
            on_death: Called once for each ready replica that ended without being told to.
            on_batch: Called with each batch that was answered, and whether requests are joined along the first axis.
        """
        self.model = model
        self.number = number
        self.digest = digest
        self.content = content
        self.folder = folder
        self.serving = serving or ReplicaSettings()
        self.limits = limits or PoolLimits(hang_seconds=self.serving.hang_seconds)
        self.meter = VersionMeter()
        self.joins = content.batching == 0 and all(spec.shape and spec.shape[0] == -1 for spec in content.inputs)
        self._on_death = on_death
        self._on_batch = on_batch
        self._batcher = Batcher(self.limits)
        own = self.serving
        launch = Launch(
            model,
            number,
            digest,
            content.to_bytes(),
            folder,
            program,
            generation,
            slots,
            threads=own.threads,
            providers=own.providers,
            memory_bytes=own.memory_bytes,
        )
        self._crew = Crew(backend or ProcessBackend(), launch, self, replicas=own.count(), limits=self.limits, on_ready=self._wake)
        self._flush_due = False
        self._sweep: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None

    # --- what routes and metrics see -----------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether a replica verified the bytes, was warmed, and gave the golden answers."""
        return self._crew.ready

    @property
    def waiting(self) -> int:
        """Requests that wait for a replica."""
        return len(self._batcher)

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that are ready."""
        return [worker.replica.pid for worker in self._crew if worker.replica.pid is not None]

    @property
    def providers(self) -> list[str]:
        """Short names of the execution providers in use, each once."""
        return sorted({worker.replica.provider for worker in self._crew if worker.replica.ready})

    def refusal(self) -> str | None:
        """Say why no further request is taken now, None if one is; asked before a body is decoded."""
        if len(self._batcher) >= self.limits.queue_requests:
            return f"{self.model}@{self.number} has {len(self._batcher)} requests waiting, the limit; try again."
        if self._crew.closed or self._crew.failing:
            return f"No replica of {self.model}@{self.number} is up; try again."
        return None

    def p99_seconds_per_row(self) -> float | None:
        """Give the 99th percentile of recent compute seconds per row, None while too few are known."""
        return self.meter.p99_seconds_per_row()

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """
        Start every replica and wait until all are ready.

        Raises:
            ReplicaFailedError: One did not become ready; none is left running then.
        """
        await self._crew.start()

    async def stop(self, *, drain: bool = True) -> None:
        """Finish what was submitted (at the deadlines at the latest), then end every replica."""
        if not drain:
            self._refuse_all("stopped", "it was stopped")
        if self._is_busy():
            self._drained = self._drained or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        await self._crew.stop()

    @property
    def in_flight(self) -> int:
        """How many batches are being computed."""
        return self._crew.in_flight

    def _is_busy(self) -> bool:
        return self._batcher.peek() is not None or self._crew.busy

    def _settle(self) -> None:
        if self._drained is not None and not self._drained.done() and not self._is_busy():
            self._drained.set_result(None)

    def _refuse_all(self, reason: Reason, message: str) -> None:
        held = [pending for worker in self._crew for batch in worker.in_flight.values() for pending in batch.pendings]
        for pending in (*self._batcher.remove_all(), *held):
            if not pending.finished:
                pending.refuse(reason, message)

    # --- requests ------------------------------------------------------------------------------------------------

    def submit(self, pending: Pending) -> None:
        """Queue one request; `Pending.answered` or `Pending.refused` is called exactly once, never from here."""
        self._batcher.put(pending)
        self._wake()

    def _wake(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._flush_due:
            self._flush_due = True
            loop.call_soon(self._flush)
        if self._sweep is None:
            self._sweep = loop.call_later(self._sweep_seconds, self._enforce_deadlines)

    @property
    def _sweep_seconds(self) -> float:
        return min(0.25, self.limits.deadline_seconds / 10)

    def _flush(self) -> None:
        self._flush_due = False
        if self._crew.closed:
            self._refuse_all("stopped", "it was stopped")
            return
        while (first := self._batcher.peek()) is not None:
            worker = self._crew.choose(exclusive=first.retried)
            if worker is None:
                return
            batch = self._batcher.take()
            if batch is not None:
                self._dispatch(worker, batch)
        self._settle()

    def _dispatch(self, worker: Worker, batch: Batch) -> None:
        now = batch.dispatched = asyncio.get_running_loop().time()
        try:
            used = worker.load(batch)
        except (SlotError, OSError) as exc:
            # No replica saw it: this is about the request, or this host's memory, not about the version.
            for pending in batch.pendings:
                pending.refuse("stopped", f"The request cannot be handed to a replica: {exc}")
            return
        fresh = [pending for pending in batch.pendings if not pending.counted]
        for pending in fresh:
            pending.counted = True
            pending.dispatched = now
            pending.lane.tally.requests += 1
            self.meter.role(pending.runs_on.role).queue_seconds.observe(now - pending.arrived)
        for lane in find_lanes(pending.lane for pending in fresh):
            lane.tally.batches += 1
        self.meter.role(batch.pendings[0].runs_on.role).batch_rows.observe(batch.rows)
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
        meter = self.meter.role(batch.pendings[0].runs_on.role)
        meter.compute_seconds.observe(seconds)
        self.meter.keep_seconds_per_row(seconds / batch.rows)
        broken = check_outputs(arrays, self.content.outputs, batch.rows if self.joins else None)
        outputs = Outputs(arrays, batch.rows, joined=self.joins)
        answered: list[bool] = []
        for pending, start, stop in batch.spans():
            if pending.finished:
                answered.append(False)
                continue
            good = broken is None and (flags is None or (flags.size == batch.rows and self.joins and not flags[start:stop].any()))
            answered.append(good)
            if good:
                pending.answer(outputs, start, stop)
                continue
            if broken is None and not pending.finite:  # the client's doing, whoever is asked
                pending.refuse("unfit", "the inputs hold NaN or infinity, and so does the answer")
                continue
            batch.incident.charge(pending.lane, "invalid")
            pending.refuse("invalid", broken or "the model's answer is not finite (NaN or infinity)")
        # A lane whose replica died is not told how fast another version is.
        for lane in find_lanes(pending.lane for pending in batch.pendings if pending.runs_on is pending.lane):
            if seconds / batch.rows > lane.slow_limit_seconds:
                batch.incident.charge(lane, "slow")
        if self._on_batch is not None and broken is None:
            self._on_batch(batch, arrays, answered, self.joins)
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

    # --- deaths --------------------------------------------------------------------------------------------------

    def on_exit(self, replica: Replica, why: str) -> None:
        """Send what the replica held elsewhere, start another one, and charge one death."""
        worker = self._crew.find(replica)
        if worker is None:
            return
        log.warning("%s", why)
        self.meter.deaths += 1
        self._crew.lose(worker)
        stay: list[Pending] = []
        for batch in worker.in_flight.values():
            for pending in batch.pendings:
                if pending.finished:
                    continue
                if pending.retried:
                    batch.incident.charge(pending.lane, "failed")
                    pending.refuse("died", f"a second replica died with this request; {why[0].lower()}{why[1:].rstrip('.')}")
                    continue
                pending.retried = True
                if not _send_to_fallback(pending):
                    stay.append(pending)
        if not self.ready:
            stay += [pending for pending in self._batcher.remove_all() if not _send_to_fallback(pending)]
        self._batcher.put_back(stay)
        if self._on_death is not None:
            self._on_death(self, why)
        self._wake()

    def _enforce_deadlines(self) -> None:
        """Refuse what is past its deadline, and end replicas that compute for longer than any request may take."""
        loop = asyncio.get_running_loop()
        now, seconds = loop.time(), self.limits.deadline_seconds
        self._sweep = None
        message = f"no answer within {seconds:g} s"
        incident = Incident()  # what waited in vain, waited for one reason
        unfinished = [pending for pending in self._batcher if not pending.finished]
        late = [pending for pending in unfinished if pending.deadline <= now]
        self._batcher.keep([pending for pending in unfinished if pending.deadline > now])
        for lane in find_lanes(pending.lane for pending in late if not pending.counted):
            lane.tally.batches += 1
        for pending in late:
            pending.lane.tally.requests += not pending.counted
            pending.counted = True
            incident.charge(pending.lane, "failed")
            pending.refuse("timeout", message)
        for worker in self._crew:
            for batch in worker.in_flight.values():
                for pending in batch.pendings:
                    if not pending.finished and pending.deadline <= now:
                        batch.incident.charge(pending.lane, "failed")
                        pending.refuse("timeout", message)
                if batch.dispatched + seconds <= now:
                    worker.replica.kill(f"computed one batch for over {seconds:g} s and was ended")
        self._settle()
        if self._is_busy():
            self._sweep = loop.call_later(self._sweep_seconds, self._enforce_deadlines)


def _send_to_fallback(pending: Pending) -> bool:
    """Let another version answer a candidate's request; say whether there is one."""
    fallback = pending.runs_on.fallback
    if fallback is None:
        return False
    if not takes_same(pending.runs_on.pool.content, fallback.pool.content):
        return False  # it was decoded for a model that takes something else
    pending.runs_on = fallback
    fallback.pool.submit(pending)
    return True


def takes_same(ours: Content, theirs: Content) -> bool:
    """Say whether a request that was decoded for one version can be given to the other."""
    return (ours.inputs, ours.outputs, ours.batching) == (theirs.inputs, theirs.outputs, theirs.batching)
