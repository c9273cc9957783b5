"""Which objects files need: their lists of segments, the segments, and those that the segments are differences to."""

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from lastgood.registry.store import manifest as files
from lastgood.registry.store import segments as parts
from lastgood.registry.store.objects import Objects

_READERS: Final = 16  # at a time: of a head of 60 bytes, the way there is what takes time


class Needed:
    """What a growing number of files needs."""

    def __init__(self, objects: Objects) -> None:
        """Begin with no file."""
        self._objects = objects
        self._segments = parts.Segments(objects)
        self._files: set[str] = set()
        self._names: set[bytes] = set()  # of segments, SHA-256: half the room of its hex digits

    def add(self, sha256s: Iterable[str]) -> None:
        """
        Add stored files, and all that they need.

        Raises:
            FileMissingError: A list of segments is gone, or a segment.
            FileDamagedError, SegmentDamagedError: One cannot be read: what else it needs is not known.
        """
        fresh = [sha256 for sha256 in dict.fromkeys(sha256s) if sha256 not in self._files]
        with ThreadPoolExecutor(_READERS, "needed") as pool:
            for found in pool.map(self._list_segments, fresh):
                self._follow(found, pool)
        self._files.update(fresh)

    def __contains__(self, name: str) -> bool:
        """Say whether an object is needed."""
        folder, _, own = name.partition("/")
        sha256 = own.replace("/", "")
        return sha256 in self._files if folder == files.FOLDER else folder != parts.FOLDER or bytes.fromhex(sha256) in self._names

    def __iter__(self) -> Iterator[str]:
        """Give the names of the objects that are needed."""
        yield from map(files.path_of, self._files)
        yield from (parts.path_of(name.hex()) for name in self._names)

    def _list_segments(self, sha256: str) -> set[bytes]:
        return {part.sha256 for part in files.read_manifest(self._objects, sha256).list_parts()}

    def _follow(self, found: Collection[bytes], pool: ThreadPoolExecutor) -> None:
        """Take segments, then what they are differences to, until nothing is new."""
        ahead = [name for name in found if name not in self._names]
        while ahead:
            self._names.update(ahead)
            bases = pool.map(self._segments.find_base, (name.hex() for name in ahead))
            ahead = list({bytes.fromhex(base) for base in bases if base is not None} - self._names)
