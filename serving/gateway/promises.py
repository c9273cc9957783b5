"""What a version promised about its outputs, checked on every answer."""

from collections.abc import Sequence

from lastgood.serving.replica.slots import Array
from lastgood.tensors import DATATYPES, TensorSpec


def check_outputs(arrays: Sequence[Array], promised: Sequence[TensorSpec], rows: int | None) -> str | None:
    """
    Compare what came out with what the content says.

    Args:
        arrays: The outputs of one batch.
        promised: The content's outputs; an empty shape promises nothing, ONNX does not tell it from an unknown one.
        rows: Rows of the batch; None where the model has no batch axis.

    Returns:
        What is wrong as a part of a sentence, None if nothing is.
    """
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
