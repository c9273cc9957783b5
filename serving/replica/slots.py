"""
Tensors in memory that gateway and replica share.

A slot is a memfd that both processes map. It belongs to one side at a time: to the gateway until it sends the
notice, to the replica until it sends the answer. So nothing here locks. Whoever writes more than the slot holds
grows it; the other side maps it again when a notice speaks of more bytes than it sees. Growing is allowed,
shrinking is sealed off: a broken replica cannot take pages away that the gateway is reading (a SIGBUS there).

Where tensors lie in it says `lastgood.serving.replica.layout`.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from lastgood.serving.replica.errors import SlotError
from lastgood.serving.replica.layout import HEAD, TEXT, Entry, find_table_bytes, lay_out, read_table

Array = np.ndarray[Any, np.dtype[Any]]

SLOT_BYTES = 1 << 20  # a new slot
SLOT_LIMIT_BYTES = 1 << 28  # a slot grows to this at most
_LENGTH = struct.Struct("<I")


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
        wanted, texts = [], {}
        for index, parts in enumerate(tensors):
            first = parts[0]
            dtype, shape = first.dtype, first.shape
            if len(parts) > 1:
                shape = (sum([part.shape[0] for part in parts]), *shape[1:])
            if dtype == TEXT:
                texts[index] = encode_texts(parts)
                wanted.append((dtype, shape, len(texts[index])))
            else:
                wanted.append((dtype, shape, sum([part.nbytes for part in parts]) if len(parts) > 1 else first.nbytes))
        layout = lay_out(tuple(wanted))
        self._reserve(layout.used)
        memory = self._map
        assert memory is not None  # noqa: S101  # only a closed slot has none
        memory[: len(layout.table)] = layout.table
        for index, (parts, entry) in enumerate(zip(tensors, layout.entries, strict=True)):
            _, shape, count, offset, nbytes = entry
            if not nbytes:
                continue
            if index in texts:
                memory[offset : offset + nbytes] = texts[index]
            elif len(parts) > 1:
                np.concatenate(parts, out=np.ndarray(shape, entry.dtype, memory, offset))
            elif parts[0].flags.c_contiguous:
                memory[offset : offset + nbytes] = parts[0].data if count > 1 else parts[0].tobytes()
            else:
                np.ndarray(shape, entry.dtype, memory, offset)[...] = parts[0]
        return layout.used

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
        if memory is None or not HEAD.size <= used <= self.size:
            raise SlotError(f"A notice speaks of {used} bytes; the slot has {self.size}.")
        try:
            layout = read_table(memory[: find_table_bytes(memory[: HEAD.size], used)])
            if layout.used > used:
                raise SlotError(f"The slot's tensors end at {layout.used}, of {used} bytes used.")
            return [_read_tensor(memory, entry) for entry in layout.entries]
        except (struct.error, ValueError, OverflowError) as exc:
            raise SlotError(f"The slot holds no tensors: {exc}.") from exc


def _read_tensor(memory: mmap.mmap, entry: Entry) -> Array:
    dtype, shape, count, offset, nbytes = entry
    if dtype == TEXT:
        return decode_texts(memory[offset : offset + nbytes], count)[0].reshape(shape)
    return np.ndarray(shape, dtype, memory, offset) if count else np.empty(shape, dtype)


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
    texts = np.empty(count, TEXT)
    end = 0
    for index in range(count):
        begin = end + _LENGTH.size
        if begin <= len(data):
            end = begin + _LENGTH.unpack_from(data, begin - _LENGTH.size)[0]
        if not begin <= end <= len(data):
            raise SlotError(f"text {index} of {count} goes past the end of its tensor")
        texts[index] = data[begin:end].decode()
    return texts, end
