"""Answered batches of one version on their way to the observer, as one message: under a light load each batch is one request."""

from collections.abc import Sequence
from typing import Final

from lastgood.serving.gateway.pool.batch import Batch
from lastgood.serving.gateway.pool.pending import Pending
from lastgood.serving.gateway.route import Lane, Pool
from lastgood.serving.observer.wire import Array, Asked, Outcome, Scope, Tensor
from lastgood.tensors import DATATYPES, TensorSpec

ENOUGH_ROWS: Final = 1024
ENOUGH_BYTES: Final = 1 << 20
Shapes = tuple[tuple[int, ...], ...]


class Gathering:
    """Batches whose tensors are alike; outputs are copied when a batch is added, for they are valid no longer."""

    __slots__ = ("_joins", "_nbytes", "_outcomes", "_outputs", "_pendings", "_pool", "_rows", "_shapes", "_shows_inputs", "_time")

    def __init__(self, pool: Pool, shapes: Shapes, time: float, *, joins: bool, shows_inputs: bool) -> None:
        """
        Begin without a batch.

        Args:
            pool: The version that answered.
            shapes: Of each input and output, without the batch's axis.
            time: Unix seconds.
            joins: Whether the first axis is the batch's; without one, a batch is one request.
            shows_inputs: Whether the observer is to see the inputs.
        """
        self._pool = pool
        self._shapes = shapes
        self._time = time
        self._joins = joins
        self._shows_inputs = shows_inputs
        self._pendings: list[Pending] = []
        self._outcomes: list[Outcome] = []
        self._outputs: list[list[bytes]] = [[] for _ in pool.content.outputs]
        self._rows = 0
        self._nbytes = 0

    @property
    def full(self) -> bool:
        """Whether it is to be shown now."""
        return self._rows >= ENOUGH_ROWS or self._nbytes >= ENOUGH_BYTES

    def takes(self, pool: Pool, shapes: Shapes) -> bool:
        """Say whether a batch can be added."""
        return pool is self._pool and shapes == self._shapes

    def add(self, batch: Batch, outputs: Sequence[Array], outcomes: Sequence[Outcome], input_bytes: int) -> None:
        """Add a batch that was answered; the bytes are those of inputs that are shown."""
        self._pendings += batch.pendings
        self._outcomes += outcomes
        self._rows += batch.rows
        self._nbytes += input_bytes
        for parts, array in zip(self._outputs, outputs, strict=True):
            if array.dtype.kind in "biuf":
                parts.append(array.tobytes())
                self._nbytes += len(parts[-1])

    def to_message(self) -> Asked:
        """Put everything into one message."""
        pool, pendings = self._pool, self._pendings
        content = pool.content
        count = len(content.inputs)
        rows = [pending.rows if self._joins else 1 for pending in pendings]
        inputs: list[Tensor] = []
        if self._shows_inputs:
            for position, spec in enumerate(content.inputs):
                first = pendings[0].inputs[position]
                data = [pending.inputs[position].tobytes() for pending in pendings] if first.dtype.kind in "biuf" else []
                _append(inputs, spec, first.dtype.str, (sum(rows), *self._shapes[position]), data)
        given: list[Tensor] = []
        for position, (spec, data) in enumerate(zip(content.outputs, self._outputs, strict=True)):
            _append(given, spec, DATATYPES[spec.datatype].str, (sum(rows), *self._shapes[count + position]), data)
        scopes, scope = _index_scopes([(pending.lane, pending.runs_on) for pending in pendings])
        return Asked(
            pool.model,
            pool.number,
            self._time,
            [pending.request_id for pending in pendings],
            [pending.serial for pending in pendings],
            rows,
            scopes,
            scope,
            [pending.traffic for pending in pendings],
            [pending.slice for pending in pendings],
            self._outcomes,
            inputs if self._shows_inputs else None,
            given,
        )


def _append(tensors: list[Tensor], spec: TensorSpec, dtype: str, shape: tuple[int, ...], data: list[bytes]) -> None:
    """Add a tensor; texts, which have no bytes of their own here, are left out."""
    if data:
        tensors.append(Tensor(spec.name, dtype, shape, b"".join(data)))


def _index_scopes(lanes: Sequence[tuple[Lane, Lane]]) -> tuple[list[Scope], list[int]]:
    scopes: list[Scope] = []
    known: dict[tuple[int, bool], int] = {}
    index = []
    for dealt, lane in lanes:
        found = known.get((id(dealt), dealt is lane))
        if found is None:
            found = known[id(dealt), dealt is lane] = len(scopes)
            # What another version answered, because a replica had died, is no evidence about the one it was dealt to.
            scopes.append(Scope(lane.role, lane.rollout, lane.step) if dealt is lane else Scope(lane.role, "", 0))
        index.append(found)
    return scopes, index
