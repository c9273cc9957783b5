"""
What a file is made of: its tensors, each in segments, and the rest of it, in segments of its own.

The rest is all bytes between tensors, one behind the other. Nothing here is believed: who reads a file hashes it.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from lastgood.registry.errors import FileDamagedError, SegmentDamagedError
from lastgood.registry.store.elements import compress, decompress
from lastgood.registry.store.layout import ITEM_BYTES, TENSORS_MAX
from lastgood.registry.store.objects import Objects, seal, unseal
from lastgood.registry.store.segments import SEGMENT_BYTES_MAX

FOLDER: Final = "files"
_MAGIC: Final = b"LGF1"
_SIZE_BYTES: Final = 8
_MANIFEST_BYTES_MAX: Final = 256 << 20
_HASH_BYTES: Final = 32
BETWEEN: Final = "bytes between tensors"


class Part(msgspec.Struct, array_like=True, frozen=True):
    """A segment in a file."""

    sha256: bytes
    nbytes: int


class Stored(msgspec.Struct, array_like=True, frozen=True):
    """A tensor of a file; its segments have SEGMENT_BYTES_MAX bytes each, the last one what is left."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    parts: tuple[Part, ...]

    @property
    def nbytes(self) -> int:
        """Count the bytes."""
        return sum(part.nbytes for part in self.parts)


class Manifest(msgspec.Struct, array_like=True, frozen=True):
    """A file; tensors in the order of their offsets."""

    size: int
    tensors: tuple[Stored, ...]
    rest: tuple[Part, ...]

    def to_bytes(self) -> bytes:
        """Give the object that is kept under the file's SHA-256."""
        body = msgspec.msgpack.encode(self)
        return seal(_MAGIC, len(body).to_bytes(_SIZE_BYTES, "little") + compress(body))

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> "Manifest":
        """
        Read what `to_bytes` gave.

        Raises:
            FileDamagedError: It is none, or its parts do not make up the file.
        """
        try:
            found = msgspec.msgpack.decode(_read_body(data), type=cls)
            found.check()
        except (SegmentDamagedError, msgspec.MsgspecError) as exc:
            raise FileDamagedError(f"The stored file {where} is no list of segments: {exc}. Put it back from a backup.") from exc
        return found

    def check(self) -> None:
        """
        Compare the parts with the size.

        Raises:
            SegmentDamagedError: They do not make up the file.
        """
        end = 0
        if len(self.tensors) > TENSORS_MAX:
            raise SegmentDamagedError(f"it lists {len(self.tensors)} tensors, {TENSORS_MAX} at most")
        for tensor in self.tensors:
            if tensor.offset < end or tensor.dtype not in ITEM_BYTES:
                raise SegmentDamagedError(f"tensor {tensor.name[:80]!r} lies in another, or has no type")
            end = tensor.offset + tensor.nbytes
        for part in self.list_parts():
            if not 0 < part.nbytes <= SEGMENT_BYTES_MAX or len(part.sha256) != _HASH_BYTES:
                raise SegmentDamagedError(f"a segment has {part.nbytes} bytes and a name of {len(part.sha256)}")
        total = sum(part.nbytes for part in self.list_parts())
        if total != self.size or end > self.size:
            raise SegmentDamagedError(f"its segments have {total} bytes, the file {self.size}")

    def list_parts(self) -> Iterator[Part]:
        """Give every segment, those of tensors first."""
        for tensor in self.tensors:
            yield from tensor.parts
        yield from self.rest

    def list_pieces(self) -> Iterator[tuple[Part, int, int, str]]:
        """
        Give the file in order: a segment, from which byte of it to which, and what it is of.

        A segment of the rest may come several times, for tensors lie in its midst.
        """
        rest = iter(self.rest)
        part, used, at = None, 0, 0
        ends = [*((tensor.offset, tensor) for tensor in self.tensors), (self.size, None)]
        for until, tensor in ends:
            while at < until:
                if part is None or used == part.nbytes:
                    part, used = next(rest), 0
                count = min(part.nbytes - used, until - at)
                yield part, used, used + count, BETWEEN
                used, at = used + count, at + count
            if tensor is not None:
                for own in tensor.parts:
                    yield own, 0, own.nbytes, f"tensor {tensor.name}"
                at += tensor.nbytes


def read_manifest(objects: Objects, sha256: str) -> Manifest:
    """
    Read the list of a stored file.

    Raises:
        FileMissingError: No such file is stored.
        FileDamagedError: The list cannot be read.
    """
    return Manifest.from_bytes(objects.read(path_of(sha256)), where=objects.locate(path_of(sha256)))


def path_of(sha256: str) -> str:
    """Give the name of the object that a file's list is."""
    return f"{FOLDER}/{sha256[:2]}/{sha256[2:]}"


def _read_body(data: bytes) -> bytes:
    body = unseal(_MAGIC, data)
    size = int.from_bytes(body[:_SIZE_BYTES], "little")
    if size > _MANIFEST_BYTES_MAX:
        raise SegmentDamagedError(f"it says it has {size} bytes, {_MANIFEST_BYTES_MAX} at most")
    return decompress(body[_SIZE_BYTES:], size)
