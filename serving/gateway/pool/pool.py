"""
One version in service: its replicas, and the requests that wait for them.

Promise, beside the dispatcher's: a replica's death is one event, and what it had in its hands is tried once more elsewhere.
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
from lastgood.serving.gateway.errors import NothingUpError
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.pool.admission import Admission
from lastgood.serving.gateway.pool.crew import Crew
from lastgood.serving.gateway.pool.dispatcher import Dispatcher, OnBatch
from lastgood.serving.gateway.pool.fallback import send_to_fallback
from lastgood.serving.gateway.pool.pending import Pending

log = logging.getLogger(__name__)
OnDeath = Callable[["ReplicaPool", str], None]
OnWanted = Callable[["ReplicaPool"], None]


class ReplicaPool(Dispatcher):
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
        super().__init__(content, limits or PoolLimits.of(self.serving), on_batch)
        self.on_change: Callable[[], None] = _ignore  # called when `ready` may have changed
        self._on_death = on_death
        self._admission = Admission(f"{model}@{number}", self.limits, self._batcher, self._pace, lambda: self._crew.rows)
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
        self.on_wanted: OnWanted | None = None  # called while it sleeps and requests wait, again and again

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
    def inviting(self) -> bool:
        """Whether a request is likely to be answered: it is up, or sleeps and nothing has kept it from being woken."""
        return self._crew.ready or (self.bed.asleep and self.bed.refusal is None)

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

    def want(self) -> None:
        """Tell whoever wakes it."""
        if self.on_wanted is not None:
            self.on_wanted(self)

    def _greet(self) -> None:
        """Take note that a replica got ready."""
        if self._up_at == math.inf:
            self._up_at = time.monotonic()
        self._wake()
        self.on_change()

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
            self._up_at = math.inf
            stay += [pending for pending in self._batcher.remove_all() if not send_to_fallback(pending)]
        self._batcher.put_back(stay)
        if self._on_death is not None:
            self._on_death(self, why)
        self._wake()
        self.on_change()


def _ignore() -> None:
    """Be nobody who has to be told."""
