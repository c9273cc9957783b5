"""
Requests as most clients send them, read in one pass: JSON, each input in its place, elements in a flat list.

Whatever is otherwise, right or wrong, is left to the full reader, which also says what is wrong.
"""

import math
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np

from lastgood.serving.gateway.protocol.elements import ARRAY_CODES, ELEMENTS
from lastgood.serving.gateway.protocol.envelope import PlainRequest
from lastgood.serving.gateway.protocol.longlists import NotPlainError, cut_out, read_numbers
from lastgood.serving.replica.slots import Array
from lastgood.tensors import DATATYPES, TensorSpec

# As `struct` names them.
_PACKED: Final = {"BOOL": "?", "FP16": "e", "FP32": "f"}
_ORDER: Final = "<" if sys.byteorder == "little" else ">"
_LONG_BYTES: Final = 2048  # of a body, from which on it pays to read its numbers apart
_FEW: Final = 4096  # elements that are packed as arguments of one call


class PlainReader:
    """Reads plain requests for one version."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        """Prepare for a version's inputs; where these are texts, or of different kinds, nothing is plain."""
        kinds = {ELEMENTS.get(spec.datatype, int) for spec in specs}
        kind = kinds.pop() if len(kinds) == 1 else str
        self._decode = None if kind is str else _make_decoder(kind)
        self._numbers = kind is float
        self._specs = [(spec.name, spec.datatype, list(spec.shape), DATATYPES[spec.datatype], -1 in spec.shape) for spec in specs]

    def read(self, body: bytes) -> tuple[PlainRequest[Any], tuple[Array, ...]] | None:
        """Give a request and its inputs in their order; None if it is not plain, or anything about it is wrong."""
        if self._decode is None:
            return None
        long = cut_out(body, len(self._specs)) if self._numbers and len(body) > _LONG_BYTES else None
        try:
            message = self._decode(body if long is None else long.rest)
            if len(message.inputs) != len(self._specs):
                return None
            arrays = []
            for index, (given, (name, datatype, wanted, dtype, varies)) in enumerate(zip(message.inputs, self._specs, strict=True)):
                shape, data = given.shape, given.data if long is None else read_numbers(long.lists[index])
                if given.name != name or given.datatype != datatype or given.parameters is not None:
                    return None
                if not (_fits(shape, wanted) if varies else shape == wanted):
                    return None
                if not len(data) or len(data) != math.prod(shape):
                    return None
                arrays.append(_shape(data, datatype, dtype, shape))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, struct.error, NotPlainError):
            return None
        return message, tuple(arrays)


class ElementReader:
    """Reads the elements of one input by themselves: a flat list of numbers."""

    __slots__ = ("_datatype", "_decode", "_dtype", "_numbers")

    def __init__(self, datatype: str) -> None:
        """Prepare for a datatype that is a number's."""
        kind = ELEMENTS.get(datatype, int)
        self._datatype = datatype
        self._dtype = DATATYPES[datatype]
        self._numbers = kind is float
        self._decode = msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]

    def read(self, raw: bytes, shape: tuple[int, ...], count: int) -> Array:
        """
        Give a tensor.

        Args:
            raw: A JSON list.
            shape: The tensor's.
            count: How many elements it has.

        Raises:
            NotPlainError: It is no list of so many numbers within the datatype's range.
        """
        try:
            data = read_numbers(raw) if self._numbers and len(raw) > _LONG_BYTES else self._decode(raw)
            if len(data) != count:
                raise NotPlainError
            return _shape(data, self._datatype, self._dtype, shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, struct.error) as exc:
            raise NotPlainError from exc


def _shape(data: Array | list[Any], datatype: str, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
    """Give elements the form of a tensor; one outside of its datatype's range is an OverflowError or a struct.error."""
    return np.ndarray(shape, dtype, _pack(data, datatype) if isinstance(data, list) else _narrow(data, dtype))


def _fits(shape: list[int], wanted: list[int]) -> bool:
    if len(shape) != len(wanted):
        return False
    for size, own in zip(shape, wanted, strict=True):  # noqa: SIM110 - for each request, and a generator costs three times as much
        if size <= 0 or (size != own and own >= 0):
            return False
    return True


@lru_cache(maxsize=8)
def _make_decoder(kind: type) -> Callable[[bytes], PlainRequest[Any]]:
    return msgspec.json.Decoder(PlainRequest[kind]).decode  # type: ignore[valid-type]


@lru_cache(maxsize=256)
def _make_packer(code: str, count: int) -> Callable[..., bytes]:
    # In standard, not native, sizes: only those check the range of FP32.
    return struct.Struct(f"{_ORDER}{count}{code}").pack


def _narrow(data: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):
        numbers = data.astype(dtype)
    if not np.isfinite(numbers).all():
        raise OverflowError
    return numbers


def _pack(data: list[Any], datatype: str) -> Any:
    code = _PACKED.get(datatype)
    if code is not None and len(data) <= _FEW:
        return _make_packer(code, len(data))(*data)
    if datatype == "FP16" or datatype not in ARRAY_CODES:
        raise OverflowError
    packed = array(ARRAY_CODES[datatype], data)
    if datatype == "FP32" and not np.isfinite(packed).all():
        raise OverflowError
    return packed
