"""Requests that run as one, and their outputs."""

from collections.abc import Sequence

from lastgood.serving.gateway.charges import Incident
from lastgood.serving.gateway.pool.pending import Pending, Run
from lastgood.serving.replica.slots import Array


class Batch:
    """Requests that run as one, and what is charged of them together."""

    __slots__ = ("exclusive", "incident", "pendings", "rows", "run", "slot")

    def __init__(self, pendings: list[Pending]) -> None:
        """Join requests of one key, or take one."""
        self.pendings = pendings
        self.rows = sum(pending.rows for pending in pendings)
        part = pendings[0].part
        self.incident = Incident() if part is None else part.incident
        # What a replica died with may kill the next one: nothing else shall be in its hands then.
        self.exclusive = pendings[0].retried
        self.slot = -1
        self.run = Run(self.rows)

    @property
    def nbytes(self) -> int:
        """Count the bytes of the inputs."""
        return sum([pending.nbytes for pending in self.pendings])

    def tensors(self) -> list[tuple[Array, ...]]:
        """Give per input the parts to be joined."""
        pendings = self.pendings
        return [tuple([pending.inputs[index] for pending in pendings]) for index in range(len(pendings[0].inputs))]


class Outputs:
    """
    The outputs of one batch as the slot holds them.

    Elements become Python objects once for the whole batch, however many requests share it.
    """

    __slots__ = ("_joined", "_values", "arrays", "rows")

    def __init__(self, arrays: Sequence[Array], rows: int, *, joined: bool) -> None:
        """
        Wrap arrays that stay valid until every request of the batch was answered.

        Args:
            arrays: In the order of the content's outputs; "batch …" if ``joined``.
            rows: Rows of the batch.
            joined: Whether the first axis is the batch's.
        """
        self.arrays = arrays
        self.rows = rows
        self._joined = joined
        self._values: dict[int, list[object]] = {}

    def values(self, output: int, start: int, stop: int) -> list[object]:
        """Give the elements of rows ``start`` to ``stop``, row-major."""
        values = self._values.get(output)
        if values is None:
            values = self._values[output] = self.arrays[output].ravel().tolist()
        if not self._joined or stop - start == self.rows:
            return values
        width = len(values) // self.rows
        return values[start * width : stop * width]

    def shape(self, output: int, start: int, stop: int) -> tuple[int, ...]:
        """Give the shape of rows ``start`` to ``stop``."""
        shape: tuple[int, ...] = self.arrays[output].shape
        return (stop - start, *shape[1:]) if self._joined else shape

    def part(self, output: int, start: int, stop: int) -> Array:
        """Give rows ``start`` to ``stop`` as they are, valid as long as the answer is."""
        return self.arrays[output][start:stop] if self._joined else self.arrays[output]
