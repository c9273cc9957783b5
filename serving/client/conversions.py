"""What a person writes as the type that a model takes, where nothing but digits behind the point is lost."""

from typing import Any, Final

import numpy as np

from lastgood.errors import UsageError
from lastgood.serving.client.answer import Array
from lastgood.tensors import DATATYPES, TensorSpec

_NUMBERS: Final = "biuf"


def convert(given: Any, spec: TensorSpec) -> Array:
    """
    Give values as an array of an input's type.

    Numbers may be rounded to a narrower floating-point type; whole numbers and truth values must be exactly what they are.

    Args:
        given: An array, or numbers or texts in lists.
        spec: The input.

    Raises:
        UsageError: They are no tensor, of another kind, or one does not fit; names it.
    """
    if spec.datatype == "BYTES":
        return _convert_texts(given, spec)
    try:
        array: Array = np.asarray(given)
    except (ValueError, OverflowError) as exc:
        raise UsageError(f"Input {spec.name!r} is no tensor: {exc}. Expected lists of one length on each level.") from exc
    dtype = DATATYPES[spec.datatype]
    if not array.size and array.dtype.kind in _NUMBERS:
        return array.astype(dtype)
    if array.dtype.kind not in _NUMBERS:
        raise UsageError(
            f"Input {spec.name!r} holds {array.ravel()[:1].tolist()!r:.60} ({array.dtype}); expected numbers for {spec.datatype}."
        )
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            converted = array.astype(dtype)
        lost = np.isfinite(array) & ~np.isfinite(converted)
    elif array.dtype.kind == dtype.kind == "b":
        return array
    else:
        lost = _find_lost(array, dtype)
        with np.errstate(invalid="ignore"):
            converted = array.astype(dtype)
    if lost.any():
        raise UsageError(f"Input {spec.name!r} holds {array[lost].ravel()[0].item()!r}, which {spec.datatype} does not.")
    return converted


def _find_lost(array: Array, dtype: np.dtype[Any]) -> Array:
    """Say which numbers are no whole numbers of that type; truth values are 0 and 1."""
    if dtype.kind == "b":
        low, high = 0, 1
    else:
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if array.dtype.kind == "f":
        # high + 1 is a power of two, so exact where high itself would be rounded up.
        wide = array.astype(np.float64)
        whole: Array = (wide >= low) & (wide < float(high + 1)) & (wide == np.floor(wide))
        return ~whole
    if array.dtype.kind == "b":
        return np.zeros(array.shape, np.bool_)
    own = np.iinfo(array.dtype)
    outside = np.zeros(array.shape, np.bool_)
    if own.min < low:
        outside |= array < low
    if own.max > high:
        outside |= array > high
    return outside


def _convert_texts(given: Any, spec: TensorSpec) -> Array:
    try:
        array: Array = np.asarray(given) if isinstance(given, np.ndarray) else np.array(given, object)
    except ValueError as exc:
        raise UsageError(f"Input {spec.name!r} is no tensor: {exc}. Expected lists of one length on each level.") from exc
    for element in array.ravel().tolist():
        if not isinstance(element, str | bytes):
            raise UsageError(f"Input {spec.name!r} holds {element!r:.60}; expected texts in lists of one length on each level.")
    return array
