"""
The requests for one version: they wait, are joined, handed to its replicas, and answered here.

Promises: a request that was submitted is finished exactly once, at its deadline at the latest; a replica's death is
one event, and what it had in its hands is tried once more elsewhere.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

from lastgood.registry.content import Content
from lastgood.replicas import ReplicaSettings
from lastgood.serving.backends.process import ProcessBackend
from lastgood.serving.backends.replica import Backend, Launch, Replica
from lastgood.serving.gateway.charges import find_lanes
from lastgood.serving.gateway.errors import NothingUpError
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.meters.meters import VersionMeter
from lastgood.serving.gateway.pool.admission import Admission
from lastgood.serving.gateway.pool.answering import charge_slow, hand_out
from lastgood.serving.gateway.pool.batch import Batch
from lastgood.serving.gateway.pool.batcher import Batcher
from lastgood.serving.gateway.pool.crew import Crew
from lastgood.serving.gateway.pool.deadlines import end_late, refuse_late
from lastgood.serving.gateway.pool.fallback import send_to_fallback
from lastgood.serving.gateway.pool.pace import Pace
from lastgood.serving.gateway.pool.pending import Pending, Reason
from lastgood.serving.gateway.pool.promises import OutputCheck
from lastgood.serving.gateway.pool.worker import Worker
from lastgood.serving.gateway.route import Lane
from lastgood.serving.gateway.sleep.bed import OVERSLEPT, Bed
from lastgood.serving.replica.errors import SlotError
from lastgood.serving.replica.slots import Array

log = logging.getLogger(__name__)
OnDeath = Callable[["ReplicaPool", str], None]
# Is shown each batch that was answered: the batch, its outputs (valid during the call), and per request whether it was answered.
OnBatch = Callable[[Batch, Sequence[Array], Sequence[bool], bool], None]
OnWanted = Callable[["ReplicaPool"], None]


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
        gate: asyncio.Semaphore | None = None,
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
            gate: How many replicas may be started at the same time, of all pools together.
        """
        self.model = model
        self.number = number
        self.digest = digest
        self.content = content
        self.folder = folder
        self.serving = serving or ReplicaSettings()
        self.limits = limits or PoolLimits.of(self.serving)
        self.meter = VersionMeter()
        self.joins = content.batching == 0 and all(spec.shape and spec.shape[0] == -1 for spec in content.inputs)
        self.on_change: Callable[[], None] = _ignore  # called when `ready` may have changed
        self._on_death = on_death
        self._on_batch = on_batch
        self._batcher = Batcher(self.limits)
        self._pace = Pace()
        self._admission = Admission(f"{model}@{number}", self.limits, self._batcher, self._pace)
        self._check = OutputCheck(content.outputs)
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
        self._crew = Crew(
            backend or ProcessBackend(), launch, self, replicas=own.count(), limits=self.limits, on_ready=self._greet, gate=gate
        )
        self.bed = Bed()
        self._sweep_seconds = min(0.25, self.limits.deadline_seconds / 10)
        self._loop = asyncio.get_running_loop()
        self._flush_due = False
        self._sweep: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self.on_wanted: OnWanted | None = None  # called while it sleeps and requests wait, again and again
        self.used_at = -math.inf  # monotonic time in seconds at which a batch was last handed to a replica

    # --- what routes and metrics see -----------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether a replica verified the bytes, was warmed, and gave the golden answers."""
        return self._crew.ready

    @property
    def available(self) -> bool:
        """Whether it answers, or can be woken to."""
        return self._crew.ready or (self.bed.asleep and not self.bed.failed)

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

    def check_room(self, seconds: float | None = None) -> None:
        """
        Let one more request in, before its body is decoded; or afterwards, one that is to be answered within so many seconds.

        Raises:
            BusyError: Too much waits, or the version sleeps and could not be woken a moment ago.
            NothingUpError: No replica is up, and none will be soon.
        """
        if self._crew.closed or self._crew.failing:
            if self._crew.closed or not self.bed.asleep:
                raise NothingUpError(f"No replica of {self.model}@{self.number} is up; try again.")
            self.bed.check()
        if seconds is None:
            self._admission.check()
        else:
            self._admission.check_time(seconds)

    def p99_seconds_per_row(self) -> float | None:
        """Give the 99th percentile of recent compute seconds per row, None while too few are known."""
        return self.meter.p99_seconds_per_row()

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self, *, urgent: bool = False) -> None:
        """
        Start every replica and wait until all are ready; also those of a version that slept.

        Args:
            urgent: Somebody waits for an answer of theirs.

        Raises:
            ReplicaFailedError: One did not become ready; none is left running then.
        """
        await self._crew.start(urgent=urgent)
        self.bed.leave()

    @property
    def busy(self) -> bool:
        """Whether something waits or is computed."""
        return self._batcher.peek() is not None or self._crew.busy

    @property
    def idle(self) -> bool:
        """Whether it could be put to sleep: every replica is up and has nothing to do, and nothing waits."""
        return self._crew.whole and not self.busy

    def sleep(self) -> Coroutine[None, None, None]:
        """
        Put a version that is `idle` to sleep, at once: what comes from now on waits.

        Returns:
            What ends its replicas; to be awaited.
        """
        self.bed.enter()
        return self._crew.end(self._crew.release())

    def keep_asleep(self, why: str, seconds: float, *, failed: bool) -> None:
        """
        Refuse what waits for a version that could not be woken, and whatever comes within that many seconds.

        Args:
            why: A part of a sentence.
            seconds: Until a request may wake it again.
            failed: Whether its bytes or its replicas are to blame.
        """
        self.bed.refuse(f"{self.model}@{self.number} sleeps: {why}. Try again.", seconds, failed=failed)
        self._crew.miss()
        self._refuse_all("stopped", f"it sleeps: {why}")
        self._settle()
        self.on_change()

    async def wait_until_idle(self) -> None:
        """Return when nothing waits or is computed; at once where nothing is."""
        if self.busy:
            if self._drained is None or self._drained.done():
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    async def stop(self, *, drain: bool = True) -> None:
        """Finish what was submitted (at the deadlines at the latest), then end every replica."""
        if not drain:
            self._refuse_all("stopped", "it was stopped")
        await self.wait_until_idle()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        await self._crew.stop()

    @property
    def in_flight(self) -> int:
        """How many batches are being computed."""
        return self._crew.in_flight

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
        if self._crew.idle:  # nothing it could be joined with is on its way: not even to the end of this tick need it wait
            self._flush()

    def _wake(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._sweep_seconds, self._enforce_deadlines)

    def _greet(self) -> None:
        """Take note that a replica got ready."""
        self._wake()
        self.on_change()

    def _flush(self) -> None:
        self._flush_due = False
        if self._crew.closed:
            self._refuse_all("stopped", "it was stopped")
            return
        batcher = self._batcher
        while (first := batcher.peek()) is not None:
            worker = self._crew.choose(exclusive=first.retried)
            if worker is None:
                if self.bed.asleep and self.on_wanted is not None:
                    self.on_wanted(self)
                break
            now = time.monotonic()
            batch = batcher.take(now + self._pace.batch_seconds)
            if batch is not None:
                self._dispatch(worker, batch, now)
        if late := batcher.take_late():
            self._refuse_late(late)
        if self._drained is not None:
            self._settle()

    def _dispatch(self, worker: Worker, batch: Batch, now: float) -> None:
        run = batch.run
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
        now = time.monotonic()
        batch.run.answered, batch.run.seconds = now, seconds
        self._pace.note(now, min(batch.rows, self.limits.batch_rows), seconds, busy=len(self._batcher) > 0)
        self.meter.role(batch.pendings[0].runs_on.role).compute_seconds.observe(seconds)
        self.meter.keep_seconds_per_row(seconds / batch.rows)
        broken = self._check.find_broken(arrays, batch.rows if self.joins else None)
        answered = hand_out(batch, arrays, flags, broken, joins=self.joins)
        charge_slow(batch, seconds)
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
                if not send_to_fallback(pending):
                    stay.append(pending)
        if not self.ready:
            stay += [pending for pending in self._batcher.remove_all() if not send_to_fallback(pending)]
        self._batcher.put_back(stay)
        if self._on_death is not None:
            self._on_death(self, why)
        self._wake()
        self.on_change()

    def _refuse_late(self, late: list[Pending]) -> None:
        # That it slept is no fault of the version.
        overslept = [pending for pending in late if pending.arrived < self.bed.left_at]
        for pending in overslept:
            pending.refuse("stopped", OVERSLEPT)
        refuse_late([pending for pending in late if not pending.finished], self.limits.deadline_seconds)

    def _enforce_deadlines(self) -> None:
        self._sweep = None
        now, seconds = time.monotonic(), self.limits.deadline_seconds
        unfinished = [pending for pending in self._batcher if not pending.finished]
        self._batcher.keep([pending for pending in unfinished if pending.deadline > now])
        self._refuse_late([pending for pending in unfinished if pending.deadline <= now])
        end_late(self._crew, now, seconds)
        self._settle()
        if self.busy:
            self._sweep = self._loop.call_later(self._sweep_seconds, self._enforce_deadlines)


def _ignore() -> None:
    """Be nobody who has to be told."""
