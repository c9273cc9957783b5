"""What the gateway has in mind: each model's state, the vetoes, and who waits for news. One event loop owns it."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from lastgood.errors import NotFoundError
from lastgood.monitoring.judge.verdict import Verdict
from lastgood.serving.gateway.rollouts.counts import RolloutCounts
from lastgood.serving.gateway.rollouts.state import ModelState
from lastgood.serving.gateway.route import Coin
from lastgood.serving.gateway.troubles import Troubles

_FAILED: Final = "a task of the gateway failed"


@dataclass(slots=True)
class Held:
    """One model as this gateway knows it."""

    state: ModelState
    generation: int = 0  # of the shared record, as last read or written
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while the shared record is being changed
    counts: RolloutCounts | None = None
    verdict: Verdict | None = None
    coin: Coin | None = None
    judging: bool = False  # a look is due at the end of this loop tick
    paged: str | None = None  # what a person was last told
    reason: str | None = None  # why the last version was taken out
    reason_code: int | None = None  # exit code of the error that kept it from becoming ready


class Book:
    """All models, the vetoes, and the tasks that work on them."""

    def __init__(self) -> None:
        """Begin empty."""
        self.held: dict[str, Held] = {}
        self.vetoed: set[str] = set()  # digests that must not serve
        self.tallies: dict[tuple[str, ...], int] = defaultdict(int)  # withdrawals, alerts and pages, for the metrics
        self.troubles = Troubles()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lasting: set[asyncio.Task[None]] = set()  # of these, what may never end by itself
        self._news = asyncio.Event()
        self.changes = 0  # how often anything changed; who has seen the last one asks for the next

    def known(self, model: str) -> Held:
        """
        Give a model that is served here.

        Raises:
            NotFoundError: It is not.
        """
        held = self.held.get(model)
        if held is None:
            raise NotFoundError(f"No model {model!r} is served here; there are: {', '.join(sorted(self.held)) or 'none'}.")
        return held

    def generation(self, model: str) -> int:
        """Give the generation of a model's route, 0 where it has none yet."""
        return self.held[model].generation if model in self.held else 0

    def tell(self) -> None:
        """Wake whoever waits for news."""
        self.changes += 1
        self._news.set()
        self._news = asyncio.Event()

    async def wait_for_news(self, seconds: float, *, after: int | None = None) -> None:
        """Return when anything changed, or after that time; at once if there were changes since the one named ``after``."""
        if after is not None and self.changes != after:
            return
        # Not `wait_for`: before Python 3.12 it loses a cancellation that comes in the same moment as the news.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def spawn(self, work: Coroutine[Any, Any, None], *, lasting: bool = False) -> None:
        """Let work go on by itself; its failure is logged, its end is news. What is ``lasting`` is not waited for at the end."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        if lasting:
            self._lasting.add(task)
        name = getattr(work, "__qualname__", type(work).__name__)
        task.add_done_callback(lambda done: self._done(done, name))

    def _done(self, task: asyncio.Task[None], name: str) -> None:
        self._tasks.discard(task)
        self._lasting.discard(task)
        if not task.cancelled():
            if (exc := task.exception()) is not None:
                self.troubles.report(_FAILED, exc, task=name)
            else:
                self.troubles.end(_FAILED, task=name)
        self.tell()

    async def close(self, seconds: float) -> None:
        """Give work that goes on this long to end, then cancel it."""
        for task in self._lasting:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
