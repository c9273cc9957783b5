"""
Versions that sleep while nobody asks for them, so that many models fit into the memory that was allowed (`loaded_bytes`).

A request for a version that sleeps waits in the version's queue, as it would for a busy replica, and wakes it: however many wait, it
is started once, and verified, warmed up and proven as at any start. Where another model has to sleep for it, that one's processes
are gone before the first new one begins. What can be measured is measured, so that the limit is kept by what is, not by what was guessed.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Literal

import structlog

from lastgood.errors import LastgoodError, TombstonedError
from lastgood.serving.gateway.errors import NoRoomError
from lastgood.serving.gateway.meters.meters import SECONDS_BOUNDS, Histogram
from lastgood.serving.gateway.pool.pool import ReplicaPool
from lastgood.serving.gateway.rollouts.book import Book
from lastgood.serving.gateway.sleep.footprint import measure_bytes
from lastgood.serving.gateway.sleep.recency import Recency
from lastgood.serving.gateway.sleep.room import Room

log = structlog.get_logger()
Result = Literal["ready", "failed", "no-room"]
RESULTS: Final[tuple[Result, ...]] = ("ready", "failed", "no-room")
_LOOK_SECONDS: Final = 5.0  # between two measurements of what is up
_NO_ROOM_SECONDS: Final = 1.0  # until a request may try again
_LONGEST_PAUSE_SECONDS: Final = 60.0  # between two attempts to wake what cannot be woken; they begin with 1 s and double


class Sleepers:
    """Wakes versions, and puts them to sleep; belongs to one event loop."""

    def __init__(self, book: Book, room: Room, recency: Recency) -> None:
        """
        Begin without a version.

        Args:
            book: Which versions must not serve.
            room: Who may be up.
            recency: When models were last asked.
        """
        self.room = room
        self.wakes: Counter[tuple[str, int, Result]] = Counter()  # by model, version, and what came of it
        self.evictions: Counter[tuple[str, int]] = Counter()
        self.wake_seconds = Histogram(SECONDS_BOUNDS)
        # Copies a version's files out if they are not there; where told so, anew.
        self.restock: Callable[[ReplicaPool, bool], Awaitable[None]] | None = None
        self.on_failed: Callable[[ReplicaPool, str, int], None] | None = None  # called with the reason, and how often it failed in a row
        self._book = book
        self._recency = recency
        self._waking: dict[ReplicaPool, asyncio.Task[None]] = {}
        self._falling: dict[ReplicaPool, asyncio.Task[None]] = {}
        self._failures: Counter[ReplicaPool] = Counter()
        self._turn = asyncio.Lock()  # who waited first for room gets it first

    async def start(self, pool: ReplicaPool) -> None:
        """
        Start a version that must be up, and look after it from then on; others sleep for it as far as they are idle.

        Raises:
            ReplicaFailedError: It did not become ready.
        """
        self.add(pool)
        self.room.reserved.add(pool)
        try:
            await self._clear(pool.model, 0)  # it is counted by now
            await pool.start()
        except BaseException:
            self.room.forget(pool)
            raise
        self.room.reserved.discard(pool)
        await self._measure([pool])

    def add(self, pool: ReplicaPool) -> None:
        """Look after a version from now on, asleep or not."""
        self.room.pools.add(pool)
        pool.on_wanted = self.want
        pool.used_at = self._recency.recall(pool.model)

    def remove(self, pool: ReplicaPool) -> None:
        """Forget a version that is being put away; if it was taken out as bad, nobody waits for it to wake any more."""
        if pool.digest in self._book.vetoed and (task := self._waking.get(pool)) is not None:
            task.cancel()
            pool.keep_asleep("it was taken out as bad meanwhile", _LONGEST_PAUSE_SECONDS, failed=True)
        self.room.forget(pool)
        del self._failures[pool]

    # --- waking --------------------------------------------------------------------------------------------------

    def want(self, pool: ReplicaPool) -> None:
        """Have a version woken that sleeps, if it is not being woken already."""
        if pool not in self._waking:
            task = self._waking[pool] = asyncio.get_running_loop().create_task(self._wake(pool))
            task.add_done_callback(lambda done: self._woken(pool, done))

    async def wake(self, pool: ReplicaPool) -> None:
        """
        Have a version up; at once where it is.

        Raises:
            ReplicaFailedError: A replica did not become ready.
            IntegrityError: A stored byte is not what was registered.
            NoRoomError: It would take more memory than is allowed.
        """
        if pool.bed.asleep:
            self.want(pool)
            await asyncio.shield(self._waking[pool])

    def wakes_now(self, pool: ReplicaPool) -> bool:
        """Say whether a version is being woken."""
        return pool in self._waking

    def _woken(self, pool: ReplicaPool, task: asyncio.Task[None]) -> None:
        del self._waking[pool]
        if not task.cancelled() and (exc := task.exception()) is not None and not isinstance(exc, LastgoodError | OSError):
            log.error("waking a version failed", model=pool.model, version=pool.number, exc_info=exc)

    async def _wake(self, pool: ReplicaPool) -> None:
        began = time.monotonic()
        try:
            self._check_veto(pool)
            if (falling := self._falling.get(pool)) is not None:
                await asyncio.shield(falling)
            await self._make_room(pool)
            if self.restock is not None:
                await self.restock(pool, self._failures[pool] > 0)
            await pool.start(urgent=True)
            self._check_veto(pool)  # before its first batch leaves
        except NoRoomError as exc:
            self._fail(pool, "no-room", str(exc), _NO_ROOM_SECONDS)
            raise
        except (LastgoodError, OSError) as exc:
            self._failures[pool] += 1
            pause = min(_LONGEST_PAUSE_SECONDS, 2.0 ** min(self._failures[pool] - 1, 30))
            self._fail(pool, "failed", f"it could not be woken: {exc}", pause)
            raise
        finally:
            # Where it failed, the others of its model are not woken after it.
            self.room.reserved.difference_update(self.room.group(pool.model) if pool.bed.asleep else [pool])
        del self._failures[pool]
        seconds = time.monotonic() - began
        self.wakes[pool.model, pool.number, "ready"] += 1
        self.wake_seconds.observe(seconds)
        log.info("version is awake", model=pool.model, version=pool.number, seconds=round(seconds, 3))
        self._book.tell()
        for other in self.room.group(pool.model):
            if other.bed.asleep:
                self.want(other)  # what this one would be taken back to
        await self._measure([pool])
        await self._clear(pool.model, 0)  # it may take more than it was thought to

    def _check_veto(self, pool: ReplicaPool) -> None:
        if pool.digest in self._book.vetoed:
            if not pool.bed.asleep:
                self._lay_down(pool)
            raise TombstonedError("it was taken out as bad")

    def _fail(self, pool: ReplicaPool, result: Result, why: str, pause: float) -> None:
        self.wakes[pool.model, pool.number, result] += 1
        log.warning("version is not woken", model=pool.model, version=pool.number, why=why)
        pool.keep_asleep(why.rstrip("."), pause, failed=result == "failed")
        if result == "failed" and self.on_failed is not None:
            self.on_failed(pool, why, self._failures[pool])
        self._book.tell()

    # --- room ----------------------------------------------------------------------------------------------------

    async def _make_room(self, pool: ReplicaPool) -> None:
        """Reserve memory for a version, and for the others of its model, which are woken after it."""
        room, model = self.room, pool.model
        if pool in room.reserved:
            return
        if room.must_be_up(model):
            await self._clear(model, room.weigh(pool))
            room.reserved.add(pool)
            return
        async with self._turn:
            group = [other for other in room.group(model) if not room.is_up(other)]
            needed = sum(map(room.weigh, group))
            deadline = time.monotonic() + pool.limits.deadline_seconds
            await self._clear(model, needed)
            while not room.fits(needed):
                left = deadline - time.monotonic()
                if left <= 0 or needed + room.kept_bytes() > (room.limit or 0):
                    raise NoRoomError(room.explain(f"{model}@{pool.number}", needed))
                await _wait_for_any([other.wait_until_idle() for other in room.list_busy(model)], left)
                await self._clear(model, needed)
            room.reserved.update(group)

    async def _clear(self, model: str, needed: int) -> None:
        """Put models to sleep, the one first that was asked longest ago, until so many bytes fit or all others are busy."""
        while not self.room.fits(needed) and (victim := self.room.find_victim(model)) is not None:
            await asyncio.wait(self.lay_down(victim))

    def lay_down(self, model: str) -> list[asyncio.Task[None]]:
        """Put every version of a model to sleep that is up, which must be idle; give what ends when their processes are gone."""
        return [self._lay_down(pool) for pool in self.room.group(model) if not pool.bed.asleep]

    def _lay_down(self, pool: ReplicaPool) -> asyncio.Task[None]:
        self.room.falling.add(pool)
        task = self._falling[pool] = asyncio.get_running_loop().create_task(pool.sleep())
        task.add_done_callback(lambda _: self._lies(pool))
        self.evictions[pool.model, pool.number] += 1
        log.info("version sleeps", model=pool.model, version=pool.number)
        return task

    def _lies(self, pool: ReplicaPool) -> None:
        del self._falling[pool]
        self.room.falling.discard(pool)
        self._book.tell()

    # --- measuring -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Measure what is up from time to time, and keep the limit by that; until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._measure([pool for pool in self.room.pools if pool.ready])
            await self._clear("", 0)
            self._recency.keep({pool.model: pool.used_at for pool in sorted(self.room.pools, key=lambda pool: pool.used_at)})

    async def _measure(self, pools: Iterable[ReplicaPool]) -> None:
        asked = list(pools)
        pids = [pool.pids for pool in asked]
        # In a thread: the kernel walks through all pages of each process.
        found = await asyncio.to_thread(lambda: list(map(measure_bytes, pids)))
        for pool, measured in zip(asked, found, strict=True):
            if not pool.bed.asleep:
                self.room.note(pool, measured)

    async def close(self) -> None:
        """Wake nobody any more; back when what was about to end has ended."""
        self._recency.keep({pool.model: pool.used_at for pool in sorted(self.room.pools, key=lambda pool: pool.used_at)})
        for pool, task in list(self._waking.items()):
            task.cancel()
            pool.keep_asleep("the gateway stops", _NO_ROOM_SECONDS, failed=False)
        await asyncio.gather(*self._waking.values(), *self._falling.values(), return_exceptions=True)


async def _wait_for_any(works: list[Awaitable[None]], seconds: float) -> None:
    """Return when the first of them ends, after that time, or soon where there is none."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=min(seconds, 0.25), return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(min(seconds, 0.1))
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
