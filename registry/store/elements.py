"""
The bytes of a tensor made smaller, alone or as a difference to another tensor of the same type and length. Lossless, whatever the bits.

Alone: of floating-point numbers the sign bit is moved behind the others, so that the exponent has a byte of its own; the bytes of one
significance (a plane) are compressed together.

As a difference: bits of floating-point numbers are mapped to integers in the order of the numbers, so that neighbours are one apart, and
differences are taken modulo the width, with the sign in the lowest bit. How large a step of training is does not depend on the weight,
but how many units in the last place it is does, by the weight's exponent. So differences are put in the order of the base's exponents,
which a reader knows too, before their planes are compressed: each stretch of a plane then has one distribution. In blocks that stay in
the cache.

Sources: XOR of neighbouring versions and byte planes: ZipLLM (arXiv 2505.06252); order of floating-point numbers: IEEE 754, 5.10;
zigzag integers: Protocol Buffers, "Encoding".
"""

import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import zstandard

from lastgood.registry.errors import SegmentDamagedError

Array = np.ndarray[Any, np.dtype[Any]]
Bytes = bytes | bytearray | memoryview
LEVEL: Final = 1  # noise is coded as well as at higher levels, and three times as fast
_BLOCK_BYTES: Final = 1 << 17  # that a block's elements have: it and its scratch stay in the second cache
_KEEPS: Final = 0.98  # a plane that hardly shrinks is kept as it is: reading it is a copy
_PLANE: Final = struct.Struct("<BI")  # whether it is compressed, and its bytes
_local = threading.local()


@dataclass(frozen=True, slots=True)
class Kind:
    """How the elements of a type are looked at."""

    width: int  # bytes
    exponent: int | None  # bits to the right of the exponent's lowest; None: whole numbers

    @property
    def unsigned(self) -> np.dtype[Any]:
        """Give the type of the bits."""
        return np.dtype(f"<u{self.width}")

    @property
    def signed(self) -> np.dtype[Any]:
        """Give the type whose shift to the right repeats the sign."""
        return np.dtype(f"<i{self.width}")


KINDS: Final = {
    "U8": Kind(1, None),
    "I8": Kind(1, None),
    "BOOL": Kind(1, None),
    "U16": Kind(2, None),
    "I16": Kind(2, None),
    "F16": Kind(2, 10),
    "BF16": Kind(2, 7),
    "U32": Kind(4, None),
    "I32": Kind(4, None),
    "F32": Kind(4, 23),
    "U64": Kind(8, None),
    "I64": Kind(8, None),
    "F64": Kind(8, 52),
}


def encode_alone(data: Bytes, kind: Kind) -> bytes:
    """Make elements smaller; their bytes are a multiple of the width."""
    bits = np.frombuffer(data, kind.unsigned)
    if kind.exponent is not None:
        bits = (bits << kind.unsigned.type(1)) | (bits >> kind.unsigned.type(8 * kind.width - 1))
    return _join_planes(bits, kind)


def decode_alone(data: Bytes, nbytes: int, kind: Kind) -> Bytes:
    """
    Give the bytes back.

    Raises:
        SegmentDamagedError: They are not what was written.
    """
    bits = _split_planes(data, nbytes, kind)
    if kind.exponent is not None:
        bits = (bits >> kind.unsigned.type(1)) | (bits << kind.unsigned.type(8 * kind.width - 1))
    return _view(bits)


def encode_xor(data: Bytes, base: Bytes, kind: Kind) -> bytes:
    """Make elements smaller by what they and the base, of as many bytes, do not share."""
    return _join_planes(np.bitwise_xor(np.frombuffer(data, kind.unsigned), np.frombuffer(base, kind.unsigned)), kind)


def decode_xor(data: Bytes, base: Bytes, kind: Kind) -> Bytes:
    """Give the bytes back; raises as `decode_alone`."""
    old = np.frombuffer(base, kind.unsigned)
    return _view(np.bitwise_xor(_split_planes(data, old.nbytes, kind), old))


def encode_difference(data: Bytes, base: Bytes, kind: Kind) -> bytes:
    """Make elements smaller by their differences to the base, of as many bytes."""
    new, old = np.frombuffer(data, kind.unsigned), np.frombuffer(base, kind.unsigned)
    scratch = _Scratch(kind)
    groups: dict[int, list[Array]] = {}
    for start, stop in _list_blocks(len(new), kind):
        folded = scratch.fold(new[start:stop], old[start:stop])
        keys, counts = _find_groups(old[start:stop], kind)
        ordered = folded if keys is None else folded[np.argsort(keys, kind="stable")]
        at = 0
        for group in np.flatnonzero(counts).tolist():
            size = int(counts[group])
            groups.setdefault(group, []).append(ordered[at : at + size].copy())
            at += size
    parts = [part for group in sorted(groups) for part in groups[group]]
    return _join_planes(np.concatenate(parts) if parts else new, kind)


def decode_difference(data: Bytes, base: Bytes, kind: Kind) -> Bytes:
    """Give the bytes back; raises as `decode_alone`."""
    old = np.frombuffer(base, kind.unsigned)
    grouped = _split_planes(data, old.nbytes, kind)
    blocks = list(_list_blocks(len(old), kind))
    found = [_find_groups(old[start:stop], kind) for start, stop in blocks]
    ends = np.cumsum(sum((counts for _, counts in found), np.zeros(256, np.int64)))
    places = np.concatenate([[0], ends[:-1]]).tolist()
    scratch = _Scratch(kind)
    new = np.empty(len(old), kind.unsigned)
    for (start, stop), (keys, counts) in zip(blocks, found, strict=True):
        ordered, at = scratch.ordered[: stop - start], 0
        for group in np.flatnonzero(counts).tolist():
            size, place = int(counts[group]), places[group]
            ordered[at : at + size] = grouped[place : place + size]
            places[group] = place + size
            at += size
        folded = scratch.folded[: stop - start]
        if keys is None:
            folded[:] = ordered
        else:
            folded[np.argsort(keys, kind="stable")] = ordered
        scratch.unfold(folded, old[start:stop], new[start:stop])
    return _view(new)


def _list_blocks(elements: int, kind: Kind) -> Iterator[tuple[int, int]]:
    step = _BLOCK_BYTES // kind.width
    return ((start, min(start + step, elements)) for start in range(0, elements, step))


def _find_groups(old: Array, kind: Kind) -> tuple[Array | None, Array]:
    """Give each element's group, None where all are in one, and how many each of 256 groups has."""
    if kind.exponent is None:
        counts = np.zeros(256, np.int64)
        counts[0] = len(old)
        return None, counts
    # Of F64's exponent the lower eight bits: groups that share a number only lose a little.
    keys = (old >> kind.unsigned.type(kind.exponent)).astype(np.uint8)
    return keys, np.bincount(keys, minlength=256)


class _Scratch:
    """Memory for one block, used again for each."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._top = kind.unsigned.type(1 << (8 * kind.width - 1))
        self._one = kind.unsigned.type(1)
        self._signs, self._places, self.folded, self.ordered = (np.empty(_BLOCK_BYTES // kind.width, kind.unsigned) for _ in range(4))

    def fold(self, new: Array, old: Array) -> Array:
        """Give differences with the sign in the lowest bit, valid until the next call."""
        count, kind = len(new), self._kind
        signs, places, folded = self._signs[:count], self._places[:count], self.folded[:count]
        self._place(new, folded, signs)
        self._place(old, places, signs)
        np.subtract(folded, places, out=folded)
        np.right_shift(folded.view(kind.signed), 8 * kind.width - 1, out=signs.view(kind.signed))
        np.left_shift(folded, self._one, out=folded)
        np.bitwise_xor(folded, signs, out=folded)
        return folded

    def unfold(self, folded: Array, old: Array, new: Array) -> None:
        """Write the elements whose differences these are; the differences are used up."""
        count = len(folded)
        signs, places = self._signs[:count], self._places[:count]
        np.bitwise_and(folded, self._one, out=signs)
        np.negative(signs, out=signs)
        np.right_shift(folded, self._one, out=folded)
        np.bitwise_xor(folded, signs, out=folded)
        self._place(old, places, signs)
        np.add(folded, places, out=folded)
        self._unplace(folded, new, signs)

    def _place(self, bits: Array, out: Array, signs: Array) -> None:
        """Map bits to integers in the order of the numbers: negative ones are turned round, and lie below the others."""
        kind = self._kind
        if kind.exponent is None:
            out[:] = bits
            return
        np.right_shift(bits.view(kind.signed), 8 * kind.width - 1, out=signs.view(kind.signed))
        np.bitwise_or(signs, self._top, out=signs)
        np.bitwise_xor(bits, signs, out=out)

    def _unplace(self, places: Array, out: Array, signs: Array) -> None:
        kind = self._kind
        if kind.exponent is None:
            out[:] = places
            return
        np.right_shift(places.view(kind.signed), 8 * kind.width - 1, out=signs.view(kind.signed))
        np.invert(signs, out=signs)
        np.bitwise_or(signs, self._top, out=signs)
        np.bitwise_xor(places, signs, out=out)


def _join_planes(bits: Array, kind: Kind) -> bytes:
    rows = np.ascontiguousarray(bits).view(np.uint8).reshape(-1, kind.width)
    found = []
    for place in range(kind.width):
        plane = np.ascontiguousarray(rows[:, place])
        small = compress(_view(plane))
        kept = len(small) >= _KEEPS * len(plane)
        found += [_PLANE.pack(not kept, len(plane) if kept else len(small)), plane.tobytes() if kept else small]
    return b"".join(found)


def _split_planes(data: Bytes, nbytes: int, kind: Kind) -> Array:
    count, view, at = nbytes // kind.width, memoryview(data), 0
    rows = np.empty((count, kind.width), np.uint8)
    for place in range(kind.width):
        if len(view) - at < _PLANE.size:
            raise SegmentDamagedError(f"plane {place} is missing")
        compressed, size = _PLANE.unpack_from(view, at)
        at += _PLANE.size
        plane: Bytes = view[at : at + size]
        at += size
        if compressed:
            plane = decompress(plane, count)
        if len(plane) != count:
            raise SegmentDamagedError(f"plane {place} has {len(plane)} bytes, expected {count}")
        rows[:, place] = np.frombuffer(plane, np.uint8)
    if at != len(view):
        raise SegmentDamagedError(f"{len(view) - at} bytes lie behind the last plane")
    return rows.reshape(-1).view(kind.unsigned)


def _view(array: Array) -> memoryview:
    view: memoryview = array.data.cast("B")
    return view


def compress(data: Bytes) -> bytes:
    """Compress bytes quickly; they are given back by `decompress`."""
    own: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if own is None:
        own = _local.compressor = zstandard.ZstdCompressor(level=LEVEL)
    return own.compress(data)


def decompress(data: Bytes, nbytes: int) -> bytes:
    """
    Give bytes back.

    Raises:
        SegmentDamagedError: They are not so many, or damaged; no more memory than that is taken.
    """
    own: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if own is None:
        own = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        # The library believes a frame that says how large it is, whatever the limit given.
        if (said := zstandard.get_frame_parameters(data).content_size) != nbytes:
            raise SegmentDamagedError(f"it says it holds {said} bytes, expected {nbytes}")
        return own.decompress(data)
    except zstandard.ZstdError as exc:
        raise SegmentDamagedError(str(exc)) from exc
