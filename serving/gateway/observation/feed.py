"""
What the observer is shown: batches with their answers, a fair sample where they are too many.

Called once for each batch, on the path of the requests. A hundredth of a second's batches of a version are shown as one:
under a light load each is one request, and waking the observer for each would cost more than answering it.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lastgood.monitoring.predictions.settings import PredictionSettings
from lastgood.serving.gateway.observation.gathering import Gathering
from lastgood.serving.gateway.observation.observer import ObserverProcess
from lastgood.serving.gateway.pool.batch import Batch
from lastgood.serving.observer.wire import Array, Outcome

SHOWN_SECONDS: Final = 0.01  # a batch is shown no later
Later = Callable[[float, Callable[[], None]], Any]
_Key = tuple[str, int, bool]  # model, version, and whether inputs are shown


@dataclass(slots=True)
class _Pace:
    """How much comes in a second: the more of the present second and the one before."""

    second: int = 0
    now: int = 0
    before: int = 0

    def count(self, time: float, amount: int) -> int:
        """Count so much; give how much a second there is."""
        second = int(time)
        if second != self.second:
            self.before = self.now if second == self.second + 1 else 0
            self.second, self.now = second, 0
        self.now += amount
        return max(self.now, self.before)


@dataclass(slots=True)
class _Watched:
    """A model whose batches are shown."""

    settings: PredictionSettings
    rows: _Pace = field(default_factory=_Pace)
    input_bytes: _Pace = field(default_factory=_Pace)


class Feed:
    """Shows batches of one gateway to its observer."""

    def __init__(self, observer: ObserverProcess, *, seed: int | None = None, later: Later | None = None) -> None:
        """
        Begin without a model.

        Args:
            observer: Who is told.
            seed: Repeats the sampling.
            later: Calls a function after some seconds; default: the running loop.
        """
        self._observer = observer
        self._random = random.Random(seed)  # noqa: S311 - a sample, no secret
        self._later = later
        self._watched: dict[str, _Watched] = {}
        self._open: dict[_Key, Gathering] = {}
        self.dropped: dict[str, int] = {}  # requests that an observer which is behind, or dead, was not shown

    def watch(self, model: str, settings: PredictionSettings) -> None:
        """Show this model's batches from now on."""
        self._watched[model] = _Watched(settings)
        self.dropped.setdefault(model, 0)

    def show(self, batch: Batch, outputs: Sequence[Array], outcomes: Sequence[Outcome], joins: bool) -> None:  # noqa: FBT001 - as `OnBatch` has it
        """
        Show a batch that was answered.

        Args:
            batch: What was asked.
            outputs: Arrays in the order of the content's outputs; valid during this call.
            outcomes: What became of each request.
            joins: Whether the first axis is the batch's; without one, the batch is one request.
        """
        pool = batch.pendings[0].runs_on.pool
        watched = self._watched.get(pool.model)
        if watched is None:
            return
        now, settings = time.time(), watched.settings
        sampled = self._draws(settings.sample * min(1.0, settings.rows_per_second / watched.rows.count(now, batch.rows)))
        if not sampled and not any(pending.serial for pending in batch.pendings):
            return  # of a pair both answers are shown, or it is none
        if self._observer.room <= 0:
            self.dropped[pool.model] += len(batch.pendings)
            return
        nbytes = batch.nbytes if sampled else 0
        shows_inputs = sampled and self._draws(settings.input_bytes_per_second / max(1, watched.input_bytes.count(now, nbytes)))
        shapes = tuple(array.shape[joins:] for array in (*batch.pendings[0].inputs, *outputs))
        key = (pool.model, pool.number, shows_inputs)
        own = self._open.get(key)
        if own is not None and not own.takes(pool, shapes):
            self._tell(key)
            own = None
        if own is None:
            if not self._open:
                (self._later or asyncio.get_running_loop().call_later)(SHOWN_SECONDS, self.flush)
            own = self._open[key] = Gathering(pool, shapes, now, joins=joins, shows_inputs=shows_inputs)
        own.add(batch, outputs, outcomes, nbytes if shows_inputs else 0)
        if own.full:
            self._tell(key)

    def flush(self) -> None:
        """Show what was gathered now: something that follows is about it."""
        for key in list(self._open):
            self._tell(key)

    def _draws(self, part: float) -> bool:
        return part >= 1.0 or self._random.random() < part

    def _tell(self, key: _Key) -> None:
        message = self._open.pop(key).to_message()
        if self._observer.tell(message):
            return
        if message.inputs:  # without them there may be room: answers and labels join all the same
            message.inputs = None
            if self._observer.tell(message):
                return
        self.dropped[key[0]] += len(message.ids)
