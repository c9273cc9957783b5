"""
Where tensors lie in a slot: the table at its begin, written and read.

Layout, little-endian::

    u32 number of tensors, u32 bytes of this table
    per tensor: u8 datatype (position in DATATYPES), u8 dimensions, 6 zero bytes, u64 offset, u64 bytes, then u64 per dimension
    the tensors' elements, each tensor on a multiple of 64 bytes

Elements are row-major. BYTES elements are each a u32 length and that many bytes of UTF-8, as in the protocol's
binary form. Batches are much alike, so a table that came before is neither put together nor taken apart again.
"""

import math
import struct
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from lastgood.serving.replica.errors import SlotError
from lastgood.tensors import DATATYPES

ALIGN: Final = 64  # a cache line, and what ONNX Runtime's kernels like best
TEXT: Final = np.dtype(object)
HEAD: Final = struct.Struct("<II")
_ENTRY: Final = struct.Struct("<BB6xQQ")
_MAX_DIMENSIONS: Final = 32
_MAX_TABLE_BYTES: Final = 1 << 20
_TYPES: Final = tuple(DATATYPES.values())
_CODES: Final = {dtype: code for code, dtype in enumerate(_TYPES)}


class Entry(NamedTuple):
    """One tensor: its elements' type, shape, and place."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    elements: int
    offset: int  # bytes from the slot's begin
    nbytes: int


class Layout(NamedTuple):
    """A slot's table, its tensors, and the bytes used in all."""

    table: bytes
    entries: tuple[Entry, ...]
    used: int


@lru_cache(maxsize=1024)
def lay_out(tensors: tuple[tuple[np.dtype[Any], tuple[int, ...], int], ...]) -> Layout:
    """
    Give the layout for tensors, each a dtype, a shape and its size in bytes.

    Raises:
        SlotError: A dtype has no name in the protocol.
    """
    position = length = HEAD.size + sum(_ENTRY.size + 8 * len(shape) for _, shape, _ in tensors)
    table, entries = [HEAD.pack(len(tensors), length)], []
    for dtype, shape, nbytes in tensors:
        code = _CODES.get(dtype)
        if code is None:
            raise SlotError(f"A tensor has dtype {dtype}; expected one of {', '.join(map(str, _TYPES))}.")
        position = -(-position // ALIGN) * ALIGN
        table.append(_ENTRY.pack(code, len(shape), position, nbytes) + struct.pack(f"<{len(shape)}Q", *shape))
        entries.append(Entry(dtype, shape, math.prod(shape), position, nbytes))
        position += nbytes
    return Layout(b"".join(table), tuple(entries), position)


def find_table_bytes(begin: bytes, used: int) -> int:
    """
    Say how long a slot's table is, by its first bytes.

    Raises:
        SlotError: It would be longer than what is used.
    """
    count, length = HEAD.unpack_from(begin)
    if not HEAD.size + _ENTRY.size * count <= length <= min(used, _MAX_TABLE_BYTES):
        raise SlotError(f"The slot's table of {count} tensors has {length} bytes, of {used} used.")
    return int(length)


@lru_cache(maxsize=1024)
def read_table(table: bytes) -> Layout:
    """
    Take a table apart; ``used`` is where its last tensor ends.

    Raises:
        SlotError: It is none.
        struct.error: An entry goes past its end.
    """
    position, end, entries = HEAD.size, len(table), []
    for _ in range(HEAD.unpack_from(table)[0]):
        code, dimensions, offset, nbytes = _ENTRY.unpack_from(table, position)
        position += _ENTRY.size
        if code >= len(_TYPES) or dimensions > _MAX_DIMENSIONS:
            raise SlotError(f"The slot's table has datatype {code} and {dimensions} dimensions.")
        shape = struct.unpack_from(f"<{dimensions}Q", table, position)
        position += 8 * dimensions
        dtype, count = _TYPES[code], math.prod(shape)
        if dtype != TEXT and count * dtype.itemsize != nbytes:
            raise SlotError(f"The slot holds {nbytes} bytes for shape {list(shape)} of {dtype}.")
        entries.append(Entry(dtype, shape, count, offset, nbytes))
        end = max(end, offset + nbytes)
    return Layout(table, tuple(entries), end)
