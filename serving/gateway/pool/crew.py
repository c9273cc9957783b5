"""The replicas of one version: started, chosen from, replaced when they die, released, and stopped."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from lastgood.serving.backends.replica import Backend, Launch, Owner, Replica, ReplicaFailedError, ReplicaStoppedError
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.pool.pulse import LOOK_SECONDS
from lastgood.serving.gateway.pool.worker import Worker

log = logging.getLogger(__name__)


class Crew:
    """As many replicas as were asked for, as long as it is not closed; belongs to one event loop."""

    def __init__(
        self,
        backend: Backend,
        launch: Launch,
        owner: Owner,
        *,
        replicas: int,
        limits: PoolLimits,
        on_ready: Callable[[], None],
        gate: asyncio.Semaphore | None = None,
    ) -> None:
        """
        Prepare; `start` starts.

        Args:
            backend: Where replicas run.
            launch: What each one is.
            owner: Who is told what they say.
            replicas: How many.
            limits: Times.
            on_ready: Called after each one that got ready.
            gate: How many may be started at the same time, of all crews together; one that takes a dead one's place does not ask.
        """
        self.closed = False
        self._backend = backend
        self._launch = launch
        self._owner = owner
        self._size = replicas
        self._limits = limits
        self._on_ready = on_ready
        self._gate = gate or asyncio.Semaphore(replicas)
        self._workers: list[Worker] = []
        self._respawns: set[asyncio.Task[None]] = set()
        self._watch: asyncio.TimerHandle | None = None  # while batches are being computed
        self._deaths_in_row = 0
        self._failed_respawns = 0

    def __iter__(self) -> Iterator[Worker]:
        """Give the workers; the crew may change meanwhile."""
        return iter(tuple(self._workers))

    @property
    def ready(self) -> bool:
        """Whether a replica is ready."""
        for worker in self._workers:  # noqa: SIM110 - for each request of a canary, and a generator costs three times as much
            if worker.replica.ready:
                return True
        return False

    @property
    def in_flight(self) -> int:
        """How many batches are being computed."""
        return sum(len(worker.in_flight) for worker in self._workers)

    @property
    def rows(self) -> int:
        """Rows that are being computed, or are the next to be, as the queue counts them."""
        rows = 0
        for worker in self._workers:  # for each request
            rows += worker.rows
        return rows

    @property
    def busy(self) -> bool:
        """Whether a replica has a batch in its hands."""
        return any(worker.in_flight for worker in self._workers)

    @property
    def idle(self) -> bool:
        """Whether no replica has a batch in its hands, and one is there."""
        for worker in self._workers:  # for each request
            if worker.in_flight:
                return False
        return bool(self._workers) and not self.closed

    @property
    def failing(self) -> bool:
        """Whether nothing runs and the last attempt to change that failed."""
        return bool(self._failed_respawns and not self._workers)

    @property
    def whole(self) -> bool:
        """Whether every replica is ready and none is being replaced."""
        return len(self._workers) == self._size and not self._respawns and all(worker.replica.ready for worker in self._workers)

    async def start(self, *, urgent: bool = False) -> None:
        """
        Start every replica and wait until all are ready; none gets a batch before.

        Args:
            urgent: Somebody waits for an answer of theirs.

        Raises:
            ReplicaFailedError: One did not become ready; none is left running then.
        """
        started: list[Replica] = []
        starting = asyncio.gather(*(self._start_one(started, urgent=urgent) for _ in range(self._size)), return_exceptions=True)
        try:
            errors = [error for error in await starting if error is not None]
        except asyncio.CancelledError:
            await self._end(started)
            raise
        if errors:
            await self._end(started)
            raise errors[0]
        await self._admit(started)

    async def _admit(self, replicas: list[Replica]) -> None:
        """Let replicas work that were started; end them where the crew was closed meanwhile, or one of them has ended."""
        ended = not all(replica.ready for replica in replicas)
        if self.closed or ended:
            await self._end(replicas)
            if not self.closed:
                # Its end found no worker to replace: nobody here had heard of it.
                raise ReplicaFailedError(f"The replica of {self._launch.name} ended as soon as it was ready.")
            return
        self._workers += [Worker(replica, self._limits) for replica in replicas]
        self._failed_respawns = 0
        self._on_ready()

    async def _start_one(self, started: list[Replica], *, urgent: bool) -> None:
        async with self._gate:
            started.append(await self._prepare(urgent=urgent))

    async def _prepare(self, *, urgent: bool) -> Replica:
        launch = replace(self._launch, urgent=urgent)
        replica = self._backend.make(launch, self._owner)
        try:
            await replica.start(self._limits.start_seconds)
        except ReplicaFailedError as exc:
            if not replica.adopted and not isinstance(exc, ReplicaStoppedError):
                raise
            # What went wrong with one that an earlier gateway left, or that somebody stopped, says nothing about the version.
            log.warning("%s", exc)
            replica = self._backend.make(launch, self._owner)
            await replica.start(self._limits.start_seconds)
        log.info("%s is ready: %s", self._launch.name, replica.report)
        return replica

    def miss(self) -> None:
        """Take note that nothing runs, nor will at once."""
        self._failed_respawns += 1

    def release(self) -> list[Worker]:
        """Give every worker away; the crew has none then and may be started again."""
        workers, self._workers = self._workers, []
        return workers

    async def stop(self) -> None:
        """End every replica, and start no other."""
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for task in list(self._respawns):
            task.cancel()
        await asyncio.gather(*self._respawns, return_exceptions=True)
        await self._stop_workers()

    async def _stop_workers(self) -> None:
        await self.end(self.release())

    async def end(self, workers: list[Worker]) -> None:
        """End replicas that were released; back when they are gone."""
        await self._end([worker.replica for worker in workers])

    async def _end(self, replicas: Iterable[Replica]) -> None:
        await asyncio.gather(*(replica.stop(self._limits.stop_seconds) for replica in replicas))

    def choose(self, *, exclusive: bool) -> Worker | None:
        """Give the worker with the fewest batches that takes another one, if there is one."""
        if self._watch is None:
            self._watch_from_now()
        best: Worker | None = None
        for worker in self._workers:
            if worker.takes(exclusive=exclusive) and (best is None or len(worker.in_flight) < len(best.in_flight)):
                best = worker
        return best

    def _watch_from_now(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for worker in self._workers:
            worker.pulse.rest(now)
        self._watch = loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """End replicas that are stopped or hang; look again while one has a batch in its hands."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for worker in self._workers:
            if not worker.in_flight:
                worker.pulse.rest(now)
            elif worker.replica.ready and (why := worker.pulse.look(now)) is not None:
                worker.replica.kill(why)
        self._watch = loop.call_later(LOOK_SECONDS, self._look) if self.busy and not self.closed else None

    def find(self, replica: Replica) -> Worker | None:
        """Give the worker of a replica, if it is one of the crew's."""
        return next((worker for worker in self._workers if worker.replica is replica), None)

    def lose(self, worker: Worker) -> None:
        """Take a worker out whose replica died, and start another one."""
        self._workers.remove(worker)
        lived = asyncio.get_running_loop().time() - worker.replica.ready_at
        self._deaths_in_row = 1 if lived >= self._limits.settled_seconds else self._deaths_in_row + 1
        if not self.closed:
            task = asyncio.get_running_loop().create_task(self._respawn())
            self._respawns.add(task)
            task.add_done_callback(self._respawns.discard)

    async def _respawn(self) -> None:
        attempt = self._deaths_in_row
        while not self.closed:
            if attempt > 1:
                await asyncio.sleep(min(self._limits.respawn_limit_seconds, self._limits.respawn_seconds * 2.0 ** min(attempt - 2, 30)))
            try:
                await self._admit([await self._prepare(urgent=not self._workers)])
            except ReplicaFailedError as exc:
                log.warning("%s", exc)
                self._failed_respawns += 1
                attempt += 1
            else:
                return
