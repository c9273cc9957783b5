"""The versions that this gateway has: brought up once each however often asked for, laid down asleep, put away when nobody needs them."""

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import structlog

from lastgood.registry.content import Content
from lastgood.replicas import ServingSettings
from lastgood.serving.backends.process import ProcessBackend
from lastgood.serving.backends.replica import Backend, Need, ReplicaFailedError
from lastgood.serving.gateway.pool.dispatcher import OnBatch
from lastgood.serving.gateway.pool.pool import ReplicaPool
from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.rollouts.record import SharedRecord
from lastgood.serving.gateway.sleep.sleepers import Sleepers
from lastgood.serving.rollout.table import Pin

log = structlog.get_logger()
Key = tuple[str, Pin]


class Shelf:
    """Replica pools by model and version, each with its own verified copy of the files."""

    def __init__(
        self,
        record: SharedRecord,
        reception: Reception,
        sleepers: Sleepers,
        folder: Path,
        *,
        backend: Backend | None = None,
        program: Sequence[str] | None = None,
        serving: ServingSettings | None = None,
        generation: Callable[[str], int] = lambda _: 0,
        on_batch: OnBatch | None = None,
    ) -> None:
        """
        Begin with an empty shelf.

        Args:
            record: Where files come from.
            reception: What the pools serve.
            sleepers: Who starts, wakes and puts to sleep.
            folder: Where the copies lie while their version is up.
            backend: Where replicas run; default: child processes.
            program: Another replica program than the product's, as an argument list.
            serving: How many replicas, and how they run, by model.
            generation: Gives the generation of a model's route.
            on_batch: Is shown what was answered.
        """
        self._record = record
        self._reception = reception
        self._sleepers = sleepers
        sleepers.restock = self._restock
        # Each start takes a core for a moment: more at a time would only make all of them late.
        self._gate = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        self._folder = folder
        self.on_death: Callable[[ReplicaPool, str], None] | None = None  # called once for each replica that died untold
        self._backend = backend or ProcessBackend()
        self._program = program
        self._serving = serving or ServingSettings()
        self._generation = generation
        self._on_batch = on_batch
        # Called with each pool that was brought up or laid down; with one that was laid down again when its files are there.
        self.on_up: Callable[[ReplicaPool], None] | None = None
        self.on_down: Callable[[ReplicaPool], None] | None = None  # and with each that is put away
        self._copies = itertools.count(1)
        self._pools: dict[Key, ReplicaPool] = {}
        self._starting: dict[Key, asyncio.Task[ReplicaPool]] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        shutil.rmtree(folder, ignore_errors=True)  # copies of a gateway that died
        folder.mkdir(parents=True)

    async def open(self, needed: Iterable[Need]) -> None:
        """
        Get the backend ready, with what these versions may still have there.

        Raises:
            ConfigurationError: Replicas cannot run where the settings say.
        """
        await self._backend.open(list(needed))

    def count_replicas(self, model: str) -> int:
        """Give how many replicas each version of a model has."""
        return self._serving.of(model).count()

    def get(self, model: str, pin: Pin | None) -> ReplicaPool | None:
        """Give the pool of a version that was brought up."""
        return self._pools.get((model, pin)) if pin else None

    async def bring(self, model: str, pin: Pin) -> ReplicaPool:
        """
        Give the version's pool, ready; it is woken if it sleeps.

        Raises:
            IntegrityError: A stored byte is not what was registered.
            ReplicaFailedError: The replica did not become ready.
        """
        key = (model, pin)
        if key in self._pools:
            await self._sleepers.wake(self._pools[key])
            return self._pools[key]
        task = self._starting.get(key)
        if task is None:
            task = self._starting[key] = asyncio.create_task(self._start_or_say(model, pin))
            task.add_done_callback(lambda _: self._starting.pop(key, None))
        return await asyncio.shield(task)

    async def _start_or_say(self, model: str, pin: Pin) -> ReplicaPool:
        try:
            return await self._start(model, pin)
        except OSError as exc:
            # No room, no file descriptor, no memory: this host's trouble, not a bug, and the rollout must hear of it.
            raise ReplicaFailedError(f"{model}@{pin.number} cannot be brought up on this machine: {exc}.") from exc

    async def _start(self, model: str, pin: Pin) -> ReplicaPool:
        content = await self._record.call(lambda registry: registry.content(pin.digest))
        pool = self._make(model, pin, content)
        try:
            await self._restock(pool)
            await self._sleepers.start(pool)
        except BaseException:
            await pool.stop()
            shutil.rmtree(pool.folder, ignore_errors=True)
            raise
        self._put(pin, pool)
        log.info("version is up", model=model, version=pin.number)
        return pool

    async def lay_down(self, model: str, pin: Pin) -> None:
        """
        Have a version here, asleep if it is not up: nothing is copied or started before it is asked for.

        Raises:
            NotFoundError: The registry has no such content.
        """
        if (model, pin) in self._pools or (model, pin) in self._starting:
            return
        content = await self._record.call(lambda registry: registry.content(pin.digest))
        if (model, pin) not in self._pools and (model, pin) not in self._starting:
            pool = self._make(model, pin, content)
            pool.bed.enter()
            self._sleepers.add(pool)
            self._put(pin, pool)

    def rests(self, model: str) -> bool:
        """Say whether a model is here and asleep, with nobody who wakes it."""
        own = [pool for key, pool in self._pools.items() if key[0] == model]
        return bool(own) and all(pool.bed.asleep and not self._sleepers.wakes_now(pool) for pool in own)

    def _make(self, model: str, pin: Pin, content: Content) -> ReplicaPool:
        # Never the folder of an earlier time: that one may be on its way out.
        folder = self._folder / f"{model}-{pin.number}-{pin.digest.removeprefix('sha256:')[:16]}-{next(self._copies)}"
        return ReplicaPool(
            model,
            pin.number,
            pin.digest,
            content,
            folder,
            backend=self._backend,
            program=self._program,
            generation=self._generation(model),
            serving=self._serving.of(model),
            on_death=self.on_death,
            on_batch=self._on_batch,
            gate=self._gate,
        )

    async def _restock(self, pool: ReplicaPool, anew: bool = False) -> None:  # noqa: FBT001, FBT002 - as `Sleepers.restock` has it
        """Copy the version's files out, every byte verified, if they are not there; ``anew``: what is there may be damaged."""
        if anew:
            shutil.rmtree(pool.folder, ignore_errors=True)
        if not pool.folder.exists():
            await self._record.materialize(pool.digest, pool.folder)
            if self.on_up is not None and pool in self._pools.values():
                self.on_up(pool)

    def _put(self, pin: Pin, pool: ReplicaPool) -> None:
        self._pools[pool.model, pin] = pool
        self._reception.add_pool(pool)
        if self.on_up is not None:
            self.on_up(pool)

    def keep_only(self, model: str, pins: Iterable[Pin]) -> None:
        """Put away every version of the model that is not among these, once its last answer is out."""
        kept = set(pins)
        for key in [key for key in self._pools if key[0] == model and key[1] not in kept]:
            pool = self._pools.pop(key)
            self._reception.remove_pool(pool)
            self._sleepers.remove(pool)
            if self.on_down is not None:
                self.on_down(pool)
            task = asyncio.create_task(self._put_away(pool))
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)

    async def _put_away(self, pool: ReplicaPool) -> None:
        await pool.stop()
        shutil.rmtree(pool.folder, ignore_errors=True)
        log.info("version is down", model=pool.model, version=pool.number)

    async def close(self) -> None:
        """Stop every replica."""
        for task in list(self._starting.values()):
            task.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        await self._sleepers.close()
        for model in {key[0] for key in self._pools}:
            self.keep_only(model, ())
        await asyncio.gather(*self._stopping)
        await self._backend.close()
