"""
Named pieces of bytes that are written once: the place below everything else.

`FolderObjects` is a folder; `remote_objects` has others (a bucket), which take its place without the store noticing. What is written is
there whole or not at all, and after `settle` it survives a power cut.
"""

import os
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from lastgood.registry.errors import FileDamagedError, FileMissingError, SegmentDamagedError

ABANDONED_SECONDS: Final = 24 * 3600  # an unfinished copy that was not written to for this long has no writer any more
INCOMING: Final = "incoming"
SEALED: Final = "sealed"  # the folder of encrypted objects


_CHECKSUM: Final = struct.Struct("<I")
_MAGIC_BYTES: Final = 4
SEAL_BYTES: Final = _MAGIC_BYTES + _CHECKSUM.size


def seal(magic: bytes, body: bytes) -> bytes:
    """Put a magic word and a checksum before what is written: a bit that is flipped shows, also where it changes nothing that is read."""
    return b"".join((magic, _CHECKSUM.pack(zlib.crc32(body)), body))


def unseal(magic: bytes, data: bytes) -> memoryview:
    """
    Give what `seal` was given.

    Raises:
        SegmentDamagedError: It is something else, or changed.
    """
    body = memoryview(data)[SEAL_BYTES:]
    if len(data) < SEAL_BYTES or data[:_MAGIC_BYTES] != magic or _CHECKSUM.unpack_from(data, _MAGIC_BYTES)[0] != zlib.crc32(body):
        raise SegmentDamagedError("its bytes were changed")
    return body


def check_name(name: str) -> PurePosixPath:
    """
    Give the name as a relative path.

    Raises:
        ValueError: It is none of an object's.
    """
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or parts.parts[:1] in {(), (INCOMING,)}:
        raise ValueError(f"{name!r} is no name of an object")
    return parts


class Objects(Protocol):
    """Bytes by name: words joined by ``/``, without ``..``."""

    is_here: bool  # whether what takes time is this machine's work, not the way to another

    def write(self, name: str, data: bytes) -> None:
        """Write an object whole, in the place of one that may be there."""
        ...

    def settle(self) -> None:
        """Return when everything that was written survives a power cut."""
        ...

    def read(self, name: str, first: int | None = None) -> bytes:
        """Read an object whole, or its first bytes; FileMissingError where there is none."""
        ...

    def read_kept(self, name: str) -> tuple[str, bytes]:
        """Give an object as it lies there, for a copy of the place: under which name, and its bytes. Errors as `read`."""
        ...

    def exists(self, name: str) -> bool:
        """Say whether there is such an object, without reading it."""
        ...

    def measure(self, name: str) -> tuple[int, float] | None:
        """Give an object's bytes and the time it was written, in seconds since 1970; None where there is none."""
        ...

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error."""
        ...

    def iterate(self, prefix: str) -> Iterator[str]:
        """Give the names of all objects below a prefix, sorted."""
        ...

    def locate(self, name: str) -> str:
        """Say where an object is or would be, for a person to look at."""
        ...


class FolderObjects:
    """A folder of read-only files; threads and processes may share it."""

    is_here = True

    def __init__(self, root: Path) -> None:
        """Use the folder, making it where it is missing, and clear copies that a killed process left unfinished."""
        self._root = root
        self._incoming = root / INCOMING
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._unsettled: set[Path] = set()  # folders in which names are new
        for left in self._incoming.iterdir():
            try:
                if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                    left.unlink()
            except FileNotFoundError:
                continue  # its writer was faster

    def write(self, name: str, data: bytes) -> None:
        """Write an object whole, in the place of one that may be there."""
        target = self._path(name)
        descriptor, fresh = tempfile.mkstemp(dir=self._incoming)
        try:
            with os.fdopen(descriptor, "wb") as sink:
                sink.write(data)
                os.fchmod(sink.fileno(), 0o444)
                sink.flush()
                os.fsync(sink.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(fresh, target)  # noqa: PTH105 - os.replace is the documented atomic call
        finally:
            Path(fresh).unlink(missing_ok=True)
        with self._lock:
            self._unsettled.add(target.parent)

    def settle(self) -> None:
        """Return when everything that was written survives a power cut."""
        with self._lock:
            folders, self._unsettled = self._unsettled, set()
        above = {parent for folder in folders for parent in folder.parents if parent.is_relative_to(self._root)}
        for folder in sorted(folders | above, reverse=True):
            sync(folder)

    def read(self, name: str, first: int | None = None) -> bytes:
        """
        Read an object whole, or so many of its first bytes.

        Raises:
            FileMissingError: There is none.
            FileDamagedError: It cannot be read.
        """
        try:
            with self._path(name).open("rb") as source:
                return source.read(first)
        except FileNotFoundError as exc:
            raise FileMissingError(f"The stored file {self.locate(name)} is gone. Put it back from a backup or a replica.") from exc
        except OSError as exc:
            raise FileDamagedError(f"The stored file {self.locate(name)} cannot be read: {exc.strerror}.") from exc

    def read_kept(self, name: str) -> tuple[str, bytes]:
        """Give an object as it lies there: under which name, and its bytes. Errors as `read`."""
        return name, self.read(name)

    def exists(self, name: str) -> bool:
        """Say whether there is such an object, without reading it."""
        return self._path(name).is_file()

    def measure(self, name: str) -> tuple[int, float] | None:
        """Give an object's bytes and the time it was written, in seconds since 1970; None where there is none."""
        try:
            found = self._path(name).stat()
        except FileNotFoundError:
            return None
        return found.st_size, found.st_mtime

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error."""
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def iterate(self, prefix: str) -> Iterator[str]:
        """Give the names of all objects below a prefix, sorted."""
        top = self._path(prefix)
        if not top.is_dir():
            return
        for folder, below, names in os.walk(top):
            below.sort()
            yield from sorted(Path(folder, name).relative_to(self._root).as_posix() for name in names)

    def locate(self, name: str) -> str:
        """Give the path."""
        return str(self._path(name))

    def _path(self, name: str) -> Path:
        return self._root / check_name(name)


def sync(path: Path) -> None:
    """Return when a file's bytes, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
