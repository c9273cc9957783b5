"""
Segments: pieces of files, each kept once under the SHA-256 of its bytes, in the smallest form that was found.

A tensor's segment whose parent is known may be kept as a difference to one of the parent's line. Its place in that line, counted from 0,
decides to which: the place with its lowest digit that is not zero, to the base of four, made zero. So a segment is read through three
others at most, however long the line is, and most are differences to a near one.

Source of the rule: skip-deltas, as Subversion's FSFS has them to the base of two.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lastgood.registry.errors import FileMissingError, SegmentDamagedError
from lastgood.registry.store import elements
from lastgood.registry.store.elements import KINDS, Bytes, Kind
from lastgood.registry.store.objects import SEAL_BYTES, Objects, seal, unseal

SEGMENT_BYTES_MAX: Final = 8 << 20
FOLDER: Final = "segments"
BASE: Final = 4  # of the places in a line
DEPTH_MAX: Final = 3  # segments that one is read through
_SAMPLE_BYTES: Final = 1 << 18  # on which two kinds of difference are compared
_MAGIC: Final = b"LGS1"
# Method, type, depth, place in the line, bytes, the base's SHA-256, and a checksum of these, for they are read alone, too. Before it lie
# the magic and a checksum of all that follows: a bit that is flipped where it changes nothing that is read is found, too.
_HEADER: Final = struct.Struct("<BBHIQ32s")
_HEAD_CHECKSUM: Final = struct.Struct("<I")
_HEAD_BYTES: Final = _HEADER.size + _HEAD_CHECKSUM.size
RAW, PACKED, ALONE, XOR, DIFFERENCE = range(5)
_TYPES: Final = tuple(sorted(KINDS))
_NO_BASE: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Header:
    """How a segment is kept."""

    method: int
    kind: Kind | None  # None: bytes
    depth: int
    place: int
    nbytes: int
    base: str | None  # SHA-256, of a difference


class Segments:
    """Segments by SHA-256 (64 hex digits); threads may share it."""

    def __init__(self, objects: Objects) -> None:
        """Keep them there."""
        self._objects = objects

    def write(self, data: Bytes, *, dtype: str | None = None, parent: str | None = None) -> str:
        """
        Keep a segment; one that is there and sound stays as it is.

        Args:
            data: 8 MiB at most.
            dtype: What its elements are, a key of `KINDS`; None for bytes.
            parent: SHA-256 of the segment it comes after, as far as it is known.

        Returns:
            Its SHA-256.
        """
        name = hashlib.sha256(data).hexdigest()
        healing = self._objects.exists(path_of(name))
        if healing and self.is_sound(name):
            return name
        # What others may be differences to already is put back by itself: nothing gets deeper.
        blob = None if healing or parent is None or dtype is None else self._write_after(data, dtype, parent)
        self._objects.write(path_of(name), blob or _write_alone(data, dtype))
        return name

    def read(self, name: str) -> Bytes:
        """
        Read a segment, verified.

        Raises:
            FileMissingError: It is gone, or one it is a difference to.
            SegmentDamagedError: It does not hash to its name, or cannot be read.
        """
        data = self.read_unverified(name)
        if (found := hashlib.sha256(data).hexdigest()) != name:
            raise SegmentDamagedError(f"The segment {self.locate(name)} hashes to {found}, not to its name: its bytes were changed.")
        return data

    def read_unverified(self, name: str) -> Bytes:
        """Read a segment whose bytes the caller hashes; errors as `read`, as far as they are found."""
        return self._read(name, DEPTH_MAX + 1)[0]

    def is_sound(self, name: str) -> bool:
        """Say whether a segment can be read."""
        try:
            self.read(name)
        except (FileMissingError, SegmentDamagedError):
            return False
        return True

    def find_base(self, name: str) -> str | None:
        """Give the SHA-256 of the segment that one is a difference to, None where it stands alone."""
        return self._head(name).base

    def locate(self, name: str) -> str:
        """Say where a segment is or would be."""
        return self._objects.locate(path_of(name))

    def _read(self, name: str, limit: int) -> tuple[Bytes, Header]:
        try:
            body = unseal(_MAGIC, self._objects.read(path_of(name)))
        except SegmentDamagedError as exc:
            raise SegmentDamagedError(f"The segment {self.locate(name)} is damaged: {exc}.") from exc
        header = _read_header(body, self.locate(name))
        if header.depth >= limit:
            raise SegmentDamagedError(f"The segment {self.locate(name)} is read through more segments than any is.")
        base = None if header.base is None else self._read(header.base, header.depth)[0]
        try:
            return _decode(header, body[_HEAD_BYTES:], base), header
        except SegmentDamagedError as exc:
            raise SegmentDamagedError(f"The segment {self.locate(name)} cannot be read: {exc}.") from exc

    def _head(self, name: str) -> Header:
        """Read a segment's header alone; who acts on it reads the segment."""
        data = self._objects.read(path_of(name), SEAL_BYTES + _HEAD_BYTES)
        return _read_header(memoryview(data)[SEAL_BYTES:], self.locate(name))

    def _write_after(self, data: Bytes, dtype: str, parent: str) -> bytes | None:
        """Give the segment as a difference to one of its parent's line; None where it is better alone, or that cannot be read."""
        try:
            found = self._find_in_line(parent)
            if found is None:
                return None
            base, place, depth = found
            old = self.read(base)
        except (FileMissingError, SegmentDamagedError):
            return None
        kind = KINDS[dtype]
        encode = None if len(old) != len(data) else _choose(data, old, kind)
        if encode is None:
            return None
        method = XOR if encode is elements.encode_xor else DIFFERENCE
        head = _write_head(method, _TYPES.index(dtype), depth, place, len(data), bytes.fromhex(base))
        return seal(_MAGIC, head + encode(data, old, kind))

    def _find_in_line(self, parent: str) -> tuple[str, int, int] | None:
        """Give the segment to which the next one of a line is a difference, the next one's place, and how deep it is."""
        name, header = parent, self._head(parent)
        place = header.place + 1
        wanted = _clear_lowest(place)
        while header.place > wanted and header.base is not None:
            name = header.base
            header = self._head(name)
        return (name, place, header.depth + 1) if header.depth < DEPTH_MAX else None


def _clear_lowest(place: int) -> int:
    unit = 1
    while place % (unit * BASE) == 0:
        unit *= BASE
    return place - place // unit % BASE * unit


def _choose(data: Bytes, old: Bytes, kind: Kind) -> Callable[[Bytes, Bytes, Kind], bytes] | None:
    """Give the kind of difference that is smallest on a sample from the middle; None where the bytes alone are."""
    start = max(0, len(data) - _SAMPLE_BYTES) // 2 // kind.width * kind.width
    one, other = memoryview(data)[start : start + _SAMPLE_BYTES], memoryview(old)[start : start + _SAMPLE_BYTES]
    ways = (elements.encode_difference, elements.encode_xor)
    best = min(ways, key=lambda encode: len(encode(one, other, kind)))
    return best if len(best(one, other, kind)) < len(elements.encode_alone(one, kind)) else None


def _write_alone(data: Bytes, dtype: str | None) -> bytes:
    method, payload = (PACKED, elements.compress(data)) if dtype is None else (ALONE, elements.encode_alone(data, KINDS[dtype]))
    if len(payload) >= len(data):
        method, payload = RAW, bytes(data)
    kind = 0 if dtype is None else _TYPES.index(dtype)
    return seal(_MAGIC, _write_head(method, kind, 0, 0, len(data), _NO_BASE) + payload)


def _decode(header: Header, payload: memoryview, base: Bytes | None) -> Bytes:
    if header.method == RAW:
        if len(payload) != header.nbytes:
            raise SegmentDamagedError(f"it has {len(payload)} bytes, expected {header.nbytes}")
        return payload
    if header.method == PACKED:
        return elements.decompress(payload, header.nbytes)
    kind = header.kind
    if kind is None or header.nbytes % kind.width:
        raise SegmentDamagedError("its elements have no type, or do not fill its bytes")
    if header.method == ALONE:
        return elements.decode_alone(payload, header.nbytes, kind)
    if base is None or len(base) != header.nbytes:
        raise SegmentDamagedError("it is a difference to bytes of another length")
    decode = elements.decode_xor if header.method == XOR else elements.decode_difference
    return decode(payload, base, kind)


def _write_head(*fields: int | bytes) -> bytes:
    head = _HEADER.pack(*fields)
    return head + _HEAD_CHECKSUM.pack(zlib.crc32(head))


def _read_header(body: memoryview, where: str) -> Header:
    if len(body) < _HEAD_BYTES:
        raise SegmentDamagedError(f"The segment {where} has {len(body)} bytes; its head alone has {_HEAD_BYTES}.")
    if _HEAD_CHECKSUM.unpack_from(body, _HEADER.size)[0] != zlib.crc32(body[: _HEADER.size]):
        raise SegmentDamagedError(f"The segment {where} is damaged: the bytes of its head were changed.")
    method, kind, depth, place, nbytes, base = _HEADER.unpack_from(body)
    # A difference has a base and lies deeper than it; nothing else does.
    if (
        method > DIFFERENCE
        or kind >= len(_TYPES)
        or nbytes > SEGMENT_BYTES_MAX
        or depth > DEPTH_MAX
        or (method >= XOR) != (depth > 0)
        or (method >= XOR) != (base != _NO_BASE)
    ):
        raise SegmentDamagedError(f"The segment {where} does not begin as one does.")
    typed = KINDS[_TYPES[kind]] if method >= ALONE else None
    return Header(method, typed, depth, place, nbytes, base.hex() if depth else None)


def path_of(name: str) -> str:
    """Give the name of the object that a segment is."""
    return f"{FOLDER}/{name[:2]}/{name[2:]}"
