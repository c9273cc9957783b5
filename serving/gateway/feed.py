"""
What the observer is shown: batches with their answers, a fair sample where they are too many.

Called once for each batch, on the path of the requests: a list of each request's facts and one copy of the arrays.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lastgood.monitoring.predictions.settings import PredictionSettings
from lastgood.serving.gateway.batcher import Batch
from lastgood.serving.gateway.observer import ObserverProcess
from lastgood.serving.gateway.route import Lane
from lastgood.serving.observer.wire import Array, Asked, Scope, Tensor
from lastgood.tensors import TensorSpec

TENSOR_BYTES_PER_SECOND: Final = 32 << 20  # inputs beyond are left out; answers and labels are joined all the same


@dataclass(slots=True)
class _Pace:
    """How much came within the present second and the one before."""

    second: int = 0
    rows: int = 0
    rows_before: int = 0
    nbytes: int = 0

    def count(self, now: float, rows: int) -> float:
        """Count rows; give how many a second there are."""
        second = int(now)
        if second != self.second:
            self.rows_before = self.rows if second == self.second + 1 else 0
            self.second, self.rows, self.nbytes = second, 0, 0
        self.rows += rows
        return max(self.rows, self.rows_before)


class Feed:
    """Shows batches of one gateway to its observer."""

    def __init__(self, observer: ObserverProcess, *, seed: int | None = None) -> None:
        """Remember who is told; ``seed`` repeats the sampling."""
        self._observer = observer
        self._random = random.Random(seed)  # noqa: S311 - a sample, no secret
        self._settings: dict[str, PredictionSettings] = {}
        self._paces: dict[str, _Pace] = {}
        self.dropped: dict[str, int] = {}  # requests that an observer which is behind, or dead, was not shown

    def watch(self, model: str, settings: PredictionSettings) -> None:
        """Show this model's batches from now on."""
        self._settings[model] = settings
        self._paces.setdefault(model, _Pace())
        self.dropped.setdefault(model, 0)

    def show(self, batch: Batch, outputs: Sequence[Array], ok: Sequence[bool], joins: bool) -> None:  # noqa: FBT001 - as `OnBatch` has it
        """
        Show a batch that was answered.

        Args:
            batch: What was asked.
            outputs: Arrays in the order of the content's outputs; valid during this call.
            ok: For each request, whether it was answered.
            joins: Whether the first axis is the batch's; without one, the batch is one request.
        """
        pool = batch.pendings[0].runs_on.pool
        settings, pace = self._settings.get(pool.model), self._paces.get(pool.model)
        if settings is None or pace is None:
            return
        now = time.time()
        rate = pace.count(now, batch.rows)
        part = settings.sample * min(1.0, settings.rows_per_second / rate)
        sampled = part >= 1.0 or self._random.random() < part
        if not sampled and not any(pending.serial for pending in batch.pendings):
            return  # of a pair both answers are shown, or it is none
        if self._observer.room <= 0:
            self.dropped[pool.model] += len(batch.pendings)
            return
        if sampled:
            pace.nbytes += sum(array.nbytes for parts in batch.tensors() for array in parts)
        content = pool.content
        inputs = [
            tensor
            for spec, parts in zip(content.inputs, batch.tensors(), strict=True)
            if sampled and pace.nbytes <= TENSOR_BYTES_PER_SECOND and (tensor := _join(spec, parts, joins=joins)) is not None
        ]
        given = [
            tensor
            for spec, array in zip(content.outputs, outputs, strict=True)
            if (tensor := _join(spec, (array,), joins=joins)) is not None
        ]
        scopes, scope = _index_scopes([(pending.lane, pending.runs_on) for pending in batch.pendings])
        message = Asked(
            pool.model,
            pool.number,
            now,
            [pending.request_id for pending in batch.pendings],
            [pending.serial for pending in batch.pendings],
            [pending.rows if joins else 1 for pending in batch.pendings],
            scopes,
            scope,
            [pending.traffic for pending in batch.pendings],
            [pending.slice for pending in batch.pendings],
            list(ok),
            inputs,
            given,
        )
        if not self._observer.tell(message):
            self.dropped[pool.model] += len(batch.pendings)


def _index_scopes(lanes: Sequence[tuple[Lane, Lane]]) -> tuple[list[Scope], list[int]]:
    scopes: list[Scope] = []
    known: dict[int, int] = {}
    index = []
    for dealt, lane in lanes:
        found = known.get(id(dealt))
        if found is None:
            found = known[id(dealt)] = len(scopes)
            # What another version answered, because a replica had died, is no evidence about the one it was dealt to.
            scopes.append(Scope(lane.role, lane.rollout, lane.step) if dealt is lane else Scope(lane.role, "", 0))
        index.append(found)
    return scopes, index


def _join(spec: TensorSpec, parts: Sequence[Array], *, joins: bool) -> Tensor | None:
    """Give a tensor's copy; None for texts, which have no bytes of their own here."""
    first = parts[0]
    if first.dtype.kind not in "biuf":
        return None
    shape = (sum(part.shape[0] for part in parts), *first.shape[1:]) if joins else (1, *first.shape)
    return Tensor(spec.name, first.dtype.str, shape, b"".join([part.tobytes() for part in parts]))
