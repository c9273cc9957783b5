"""A stored file that is read where it lies in its segments; nothing is copied out of the store."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lastgood.registry.errors import FileDamagedError, FileMissingError, SegmentDamagedError
from lastgood.registry.store.elements import Bytes
from lastgood.registry.store.layout import Source, Tensor
from lastgood.registry.store.manifest import BETWEEN, Manifest, Part
from lastgood.registry.store.segments import SEGMENT_BYTES_MAX, Segments

REMEDY: Final = "Put it back from a backup, or register the same file again."
_KEPT_BYTES: Final = 2 * SEGMENT_BYTES_MAX  # of segments read last: the next thing that is asked for often lies in the same one


@dataclass(frozen=True, slots=True)
class Stretch:
    """
    Some elements of a tensor that are read at once, 8 MiB at most.

    The SHA-256 is known where they are a segment of their own.
    """

    offset: int  # bytes from the file's begin
    nbytes: int
    sha256: bytes | None


class StoredFile:
    """
    One stored file; not for several threads at once.

    Every segment is compared with its name when it is read. The file is not hashed as a whole: what is read of it is
    what was stored if the list of segments is.
    """

    def __init__(self, segments: Segments, manifest: Manifest) -> None:
        """Read the file with this list of segments."""
        self._segments = segments
        self._pieces = list(manifest.list_pieces())
        self._ends: list[int] = []
        end = 0
        for _, start, stop, _ in self._pieces:
            end += stop - start
            self._ends.append(end)
        self._tensors = {own.offset: own for own in manifest.tensors}
        self._kept = OrderedDict[bytes, Bytes]()
        self._kept_bytes = 0
        self.size: Final = manifest.size

    def read_at(self, offset: int, count: int) -> bytes:
        """
        Read so many bytes from there; fewer only at the end.

        Raises:
            FileDamagedError: A segment does not hash to its name; says of which tensor.
            FileMissingError: A segment is gone; says the same.
        """
        return b"".join(self._fetch(part, what)[start:stop] for part, start, stop, what in self._list_inside(offset, count))

    def outline(self) -> Source:
        """
        Give the file with zeros where its large tensors lie.

        It is what a locator looks through: it needs what stands between tensors, and what it reads ahead of itself
        is not fetched.
        """
        return _Outline(self)

    def list_stretches(self, tensor: Tensor) -> list[Stretch]:
        """
        Give a tensor's elements in order: 8 MiB each, the last what is left.

        Two tensors of as many bytes have stretches of the same lengths, whether they have segments of their own or not.
        """
        own = self._tensors.get(tensor.offset)
        # Tensors below 4 KiB have no segments, nor have those that another lastgood did not find when it stored the file.
        parts = own.parts if own is not None and own.nbytes == tensor.nbytes else ()
        if any(part.nbytes != SEGMENT_BYTES_MAX for part in parts[:-1]):
            parts = ()
        stretches, end = [], tensor.offset + tensor.nbytes
        for index, at in enumerate(range(tensor.offset, end, SEGMENT_BYTES_MAX)):
            stretches.append(Stretch(at, min(SEGMENT_BYTES_MAX, end - at), parts[index].sha256 if parts else None))
        return stretches

    def read_stretch(self, tensor: Tensor, stretch: Stretch) -> Bytes:
        """Read some elements of a tensor; errors as `read_at`, naming this tensor."""
        inside = self._list_inside(stretch.offset, stretch.nbytes)
        pieces = [self._fetch(part, f"tensor {tensor.name}")[start:stop] for part, start, stop, _ in inside]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_outline(self, offset: int, count: int) -> bytes:
        """Read as `read_at`, with zeros in the place of tensors."""
        inside = self._list_inside(offset, count)
        return b"".join(
            self._fetch(part, what)[start:stop] if what is BETWEEN else bytes(stop - start) for part, start, stop, what in inside
        )

    def _list_inside(self, offset: int, count: int) -> Iterator[tuple[Part, int, int, str]]:
        """Give the pieces of segments that make up a range, and what they are of."""
        end = min(offset + count, self.size)
        index = bisect_right(self._ends, offset)
        while offset < end:
            part, start, stop, what = self._pieces[index]
            begin = start + offset - (self._ends[index] - (stop - start))
            taken = min(stop - begin, end - offset)
            yield part, begin, begin + taken, what
            offset += taken
            index += 1

    def _fetch(self, part: Part, what: str) -> memoryview:
        data = self._kept.pop(part.sha256, None)
        if data is None:
            try:
                data = self._segments.read(part.sha256.hex())
            except (SegmentDamagedError, FileMissingError) as exc:
                kind = FileMissingError if isinstance(exc, FileMissingError) else FileDamagedError
                raise kind(f"{what}: {exc} {REMEDY}") from exc
            self._kept_bytes += len(data)
        self._kept[part.sha256] = data
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])
        return memoryview(data)


class _Outline:
    """The file as `StoredFile.outline` gives it."""

    def __init__(self, file: StoredFile) -> None:
        self._file = file
        self.size: Final = file.size

    def read_at(self, offset: int, count: int) -> bytes:
        """Read so many bytes from there; fewer only at the end."""
        return self._file.read_outline(offset, count)
