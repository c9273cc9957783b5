"""
Tensors in memory that gateway and replica share.

A slot is a memfd that both processes map. It belongs to one side at a time: to the gateway until it sends the
notice, to the replica until it sends the answer. So nothing here locks. Whoever writes more than the slot holds
grows it; the other side maps it again when a notice speaks of more bytes than it sees. Growing is allowed,
shrinking is sealed off: a broken replica cannot take pages away that the gateway is reading (a SIGBUS there).

Layout, little-endian::

    u32 number of tensors, u32 zero
    per tensor: u8 datatype (position in DATATYPES), u8 dimensions, 6 zero bytes, u64 offset, u64 bytes, then u64 per dimension
    the tensors' elements, each tensor on a multiple of 64 bytes

Elements are row-major. BYTES elements are each a u32 length and that many bytes of UTF-8, as in the protocol's
binary form.
"""

import fcntl
import math
import mmap
import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from lastgood.serving.replica.errors import SlotError
from lastgood.tensors import DATATYPES

Array = np.ndarray[Any, np.dtype[Any]]

SLOT_BYTES = 1 << 20  # a new slot
SLOT_LIMIT_BYTES = 1 << 28  # a slot grows to this at most
_ALIGN = 64  # a cache line, and what ONNX Runtime's kernels like best
_COUNT = struct.Struct("<II")
_ENTRY = struct.Struct("<BB6xQQ")
_LENGTH = struct.Struct("<I")
_MAX_DIMENSIONS = 32
_TYPES = tuple(DATATYPES.values())
_CODES = {dtype: code for code, dtype in enumerate(_TYPES)}
_OBJECT = np.dtype(object)


class Slot:
    """One piece of shared memory; ``fd`` is what the other process maps."""

    __slots__ = ("_map", "fd", "limit", "size")

    def __init__(self, fd: int, *, limit: int = SLOT_LIMIT_BYTES) -> None:
        """Map the memfd that the other side made."""
        self.fd = fd
        self.limit = limit
        self.size = 0
        self._map: mmap.mmap | None = None
        self._remap()

    @classmethod
    def create(cls, size: int = SLOT_BYTES, *, limit: int = SLOT_LIMIT_BYTES) -> "Slot":
        """Make a slot of ``size`` bytes, which can grow to ``limit`` bytes and never shrinks."""
        fd = os.memfd_create("lastgood-slot", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(fd, 0, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            return cls(fd, limit=limit)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Give the memory back once the last array read from it is gone."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._map = None  # unmapped with the last view: closing it here would fail while one lives

    def _remap(self) -> None:
        self.size = os.fstat(self.fd).st_size
        self._map = mmap.mmap(self.fd, self.size)

    def _reserve(self, size: int) -> None:
        if size <= self.size:
            return
        if size > self.limit:
            raise SlotError(f"The tensors take {size} bytes; a slot holds {self.limit} at most.")
        target = min(self.limit, max(size, 2 * self.size))
        # Not ftruncate: memory that turns out to be missing must be an error here, not a SIGBUS while writing.
        os.posix_fallocate(self.fd, self.size, target - self.size)
        self._remap()

    def write(self, tensors: Sequence[Sequence[Array]]) -> int:
        """
        Write tensors, each given as parts to be joined along their first axis.

        Args:
            tensors: Per tensor one part or more; the parts agree in dtype and in every axis but the first.

        Returns:
            Bytes used, to be sent with the notice.

        Raises:
            SlotError: They take more than the slot's limit, or a dtype has no name in the protocol.
        """
        shapes = [_join_shapes(parts) for parts in tensors]
        texts = [encode_texts(parts) if parts[0].dtype == _OBJECT else b"" for parts in tensors]
        position = _COUNT.size + sum(_ENTRY.size + 8 * len(shape) for shape in shapes)
        table = [_COUNT.pack(len(tensors), 0)]
        offsets = []
        for parts, shape, text in zip(tensors, shapes, texts, strict=True):
            dtype = parts[0].dtype
            code = _CODES.get(dtype)
            if code is None:
                raise SlotError(f"A tensor has dtype {dtype}; expected one of {', '.join(map(str, _TYPES))}.")
            nbytes = len(text) if dtype == _OBJECT else math.prod(shape) * dtype.itemsize
            position = -(-position // _ALIGN) * _ALIGN
            offsets.append(position)
            table.append(_ENTRY.pack(code, len(shape), position, nbytes) + struct.pack(f"<{len(shape)}Q", *shape))
            position += nbytes
        self._reserve(position)
        memory = self._map
        assert memory is not None  # noqa: S101  # only a closed slot has none
        head = b"".join(table)
        memory[: len(head)] = head
        for parts, shape, text, offset in zip(tensors, shapes, texts, offsets, strict=True):
            if parts[0].dtype == _OBJECT:
                memory[offset : offset + len(text)] = text
                continue
            count = math.prod(shape)
            if count == 0:
                continue
            view = np.frombuffer(memory, parts[0].dtype, count, offset).reshape(shape)
            if len(parts) == 1:
                view[...] = parts[0]
            else:
                np.concatenate(parts, out=view)
        return position

    def read(self, used: int) -> list[Array]:
        """
        Give the tensors that the other side wrote.

        Numbers are views of the shared memory: valid until the slot is handed over again.

        Args:
            used: Bytes the other side says it used.

        Raises:
            SlotError: The table or an element lies outside of them: the other side is broken.
        """
        if used > self.size:
            self._remap()
        memory = self._map
        if memory is None or not _COUNT.size <= used <= self.size:
            raise SlotError(f"A notice speaks of {used} bytes; the slot has {self.size}.")
        try:
            return [_read_tensor(memory, entry, used) for entry in _read_table(memory, used)]
        except (struct.error, UnicodeDecodeError, OverflowError) as exc:
            raise SlotError(f"The slot holds no tensors: {exc}.") from exc


def _join_shapes(parts: Sequence[Array]) -> tuple[int, ...]:
    if len(parts) == 1:
        return tuple(parts[0].shape)
    return (sum(part.shape[0] for part in parts), *parts[0].shape[1:])


def _read_table(memory: mmap.mmap, used: int) -> list[tuple[int, tuple[int, ...], int, int]]:
    count, _ = _COUNT.unpack_from(memory, 0)
    position = _COUNT.size
    entries = []
    for _ in range(count):
        if position + _ENTRY.size > used:
            raise SlotError(f"The slot's table of {count} tensors goes past the {used} bytes used.")
        code, dimensions, offset, nbytes = _ENTRY.unpack_from(memory, position)
        position += _ENTRY.size
        if code >= len(_TYPES) or dimensions > _MAX_DIMENSIONS or offset + nbytes > used:
            raise SlotError(f"The slot's table has datatype {code}, {dimensions} dimensions, {nbytes} bytes at {offset} of {used}.")
        shape = struct.unpack_from(f"<{dimensions}Q", memory, position)
        position += 8 * dimensions
        entries.append((code, shape, offset, nbytes))
    return entries


def _read_tensor(memory: mmap.mmap, entry: tuple[int, tuple[int, ...], int, int], used: int) -> Array:
    code, shape, offset, nbytes = entry
    dtype = _TYPES[code]
    count = math.prod(shape)
    if dtype == _OBJECT:
        return decode_texts(memory[offset : offset + nbytes], count)[0].reshape(shape)
    if count * dtype.itemsize != nbytes or offset + nbytes > used:
        raise SlotError(f"The slot holds {nbytes} bytes for shape {list(shape)} of {dtype}.")
    if count == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(memory, dtype, count, offset).reshape(shape)


def encode_texts(parts: Sequence[Array]) -> bytes:
    """Give the binary form of texts: each a u32 length and that many bytes of UTF-8."""
    pieces = []
    for part in parts:
        for element in part.ravel():
            data = element if isinstance(element, bytes) else str(element).encode()
            pieces.append(_LENGTH.pack(len(data)))
            pieces.append(data)
    return b"".join(pieces)


def decode_texts(data: bytes, count: int) -> tuple[Array, int]:
    """
    Read ``count`` texts, and say how many bytes they took.

    Raises:
        SlotError: There are fewer.
        UnicodeDecodeError: One is not UTF-8.
    """
    if 4 * count > len(data):  # so that a lie about the shape cannot take memory
        raise SlotError(f"{len(data)} bytes are too few for {count} texts")
    texts = np.empty(count, _OBJECT)
    end = 0
    for index in range(count):
        begin = end + _LENGTH.size
        if begin <= len(data):
            end = begin + _LENGTH.unpack_from(data, begin - _LENGTH.size)[0]
        if not begin <= end <= len(data):
            raise SlotError(f"text {index} of {count} goes past the end of its tensor")
        texts[index] = data[begin:end].decode()
    return texts, end
