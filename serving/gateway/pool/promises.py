"""What a version promised about its outputs, checked on every answer."""

from collections.abc import Sequence
from typing import Any, Final

from lastgood.serving.replica.slots import Array
from lastgood.tensors import DATATYPES, TensorSpec

_KNOWN: Final = 256


class OutputCheck:
    """Compares outputs with what the content says; what was right before is not looked at closely again."""

    __slots__ = ("_known", "_promised")

    def __init__(self, promised: Sequence[TensorSpec]) -> None:
        """
        Prepare.

        Args:
            promised: The content's outputs; an empty shape promises nothing, ONNX does not tell it from an unknown one.
        """
        self._promised = promised
        self._known: set[tuple[Any, ...]] = set()

    def find_broken(self, arrays: Sequence[Array], rows: int | None) -> str | None:
        """
        Look at the outputs of one batch.

        Args:
            arrays: What came out.
            rows: Rows of the batch; None where the model has no batch axis.

        Returns:
            What is wrong as a part of a sentence, None if nothing is.
        """
        key = (rows, *[(array.dtype, array.shape) for array in arrays])
        if key in self._known:
            return None
        problem = _compare(arrays, self._promised, rows)
        if problem is None and len(self._known) < _KNOWN:
            self._known.add(key)
        return problem


def _compare(arrays: Sequence[Array], promised: Sequence[TensorSpec], rows: int | None) -> str | None:
    if len(arrays) != len(promised):
        return f"the model gave {len(arrays)} outputs, promised were {len(promised)}"
    for array, spec in zip(arrays, promised, strict=True):
        if array.dtype != DATATYPES[spec.datatype]:
            return f"output {spec.name!r} is {array.dtype}, promised was {spec.datatype}"
        shape = array.shape
        if spec.shape and (
            len(shape) != len(spec.shape) or any(size not in (-1, actual) for actual, size in zip(shape, spec.shape, strict=True))
        ):
            return f"output {spec.name!r} has shape {list(shape)}, promised was {list(spec.shape)}"
        if rows is not None and (not shape or shape[0] != rows):
            return f"output {spec.name!r} has shape {list(shape)} for a batch of {rows} rows"
    return None
