"""
Tensor elements from JSON to numpy and no further than the datatype allows.

The fast way decodes with a type and converts once; only where that fails are elements looked at one by one, to name
the one that is wrong.
"""

import math
from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np

from lastgood.serving.gateway.errors import BadRequestError
from lastgood.serving.replica.slots import Array
from lastgood.tensors import DATATYPES

_MAX_DEPTH = 16
ARRAY_CODES: Final = {
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "d",  # narrowed below: arrays know no half precision, and by way of FP32 it would be rounded twice
    "FP32": "f",
    "FP64": "d",
}
ELEMENTS: Final[dict[str, type]] = {"BOOL": bool, "BYTES": str, "FP16": float, "FP32": float, "FP64": float}
_KINDS: Final = {bool: "true or false", str: "a text", float: "a number", int: "a whole number"}
_LARGEST: Final = {name: float(np.finfo(dtype).max) for name, dtype in DATATYPES.items() if dtype.kind == "f"}
_FEW: Final = 256  # numbers; for more, numpy is faster
_OPENING, _SPACES = ord("["), b" \t\r\n"


def decode_elements(raw: memoryview, datatype: str, shape: Sequence[int], where: str) -> Array:
    """
    Decode the elements of a tensor.

    Args:
        raw: JSON, a flat list in row-major order or lists nested as the shape says; for a scalar, also its element alone.
        datatype: Of the Open Inference Protocol.
        shape: Positive sizes.
        where: What an error is to call the field, such as ``inputs[0].data``.

    Raises:
        BadRequestError: They are no such list, too few or many, of another type, or out of the datatype's range.
    """
    element = ELEMENTS.get(datatype, int)
    depth = _count_depth(raw)
    if not shape:
        if depth > 1:
            raise BadRequestError(f"{where} is nested {depth} deep; shape [] needs one element, by itself or in a list.")
        if not depth:
            raw, depth = memoryview(b"[%b]" % bytes(raw)), 1
    if depth not in {1, max(len(shape), 1)}:
        raise BadRequestError(
            f"{where} is nested {depth} deep; expected a flat list, or lists nested {len(shape)} deep as shape {list(shape)}."
        )
    try:
        values = _make_decoder(element, depth).decode(raw)
    except msgspec.ValidationError as exc:
        raise BadRequestError(_explain(str(exc), element, datatype, where)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRequestError(f"{where} is not valid JSON: {exc}.") from None
    flat: list[Any] = values if depth == 1 else _flatten(values, shape, where)
    if len(flat) != math.prod(shape):
        raise BadRequestError(f"{where} has {len(flat)} elements; shape {list(shape)} needs {math.prod(shape)}.")
    return _convert(flat, datatype, where).reshape(shape)


def _count_depth(raw: memoryview) -> int:
    depth = 0
    for byte in raw:
        if byte == _OPENING:
            depth += 1
            if depth > _MAX_DEPTH:
                break
        elif byte not in _SPACES:
            break
    return depth


@lru_cache(maxsize=128)
def _make_decoder(element: type, depth: int) -> msgspec.json.Decoder[Any]:
    kind: Any = element
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


def _flatten(values: list[Any], shape: Sequence[int], where: str) -> list[Any]:
    level: list[Any] = [values]
    for axis, size in enumerate(shape):
        for part in level:
            if len(part) != size:
                raise BadRequestError(f"{where} has a list of {len(part)} where shape {list(shape)} has {size} (axis {axis}).")
        level = list(chain.from_iterable(level))
    return level


def _convert(flat: list[Any], datatype: str, where: str) -> Array:
    if datatype == "BOOL":
        return np.array(flat, np.bool_)
    if datatype == "BYTES":
        texts = np.empty(len(flat), object)
        texts[:] = flat
        return texts
    dtype = DATATYPES[datatype]
    try:
        numbers: Array = np.asarray(array(ARRAY_CODES[datatype], flat))
    except OverflowError:
        limits = np.iinfo(dtype)
        index = next(index for index, value in enumerate(flat) if not limits.min <= value <= limits.max)
        raise BadRequestError(f"{where}[{index}] is {flat[index]}; {datatype} holds {limits.min} to {limits.max}.") from None
    if datatype == "FP16":
        with np.errstate(over="ignore"):
            numbers = numbers.astype(np.float16)
    if dtype.kind == "f" and not _is_in_range(flat, datatype) and not np.isfinite(numbers).all():
        index = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise BadRequestError(f"{where}[{index}] is {flat[index]!r}; {datatype} holds {np.finfo(dtype).min} to {np.finfo(dtype).max}.")
    return numbers


def _is_in_range(flat: list[Any], datatype: str) -> bool:
    """Say whether no number is too large for its datatype, as far as that can be told cheaply: none is above the root of all squares."""
    return len(flat) <= _FEW and math.hypot(*flat) <= _LARGEST[datatype]


def _explain(problem: str, element: type, datatype: str, where: str) -> str:
    """Turn "Expected `int`, got `float` - at `$[0][1]`" into a sentence about the field."""
    what, _, path = problem.partition(" - at `$")
    return f"{where}{path.rstrip('`')}: {what.replace('`', '')}; {datatype} elements are each {_KINDS[element]}."
