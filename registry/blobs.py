"""
Where the bytes are: files stored under their own SHA-256.

`BlobStore` is the seam. `FileStore` is a folder; other stores (objects in a cloud, tensors stored once) take its
place without the rest of the registry noticing. A stored file is never changed, and never believed: every read
hashes it again.
"""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from lastgood.registry.errors import FileDamagedError, FileMissingError, InvalidSourceError

CHUNK_BYTES: Final = 1 << 20
ABANDONED_SECONDS: Final = 24 * 3600  # an unfinished copy that was not written to for this long has no writer any more
_NAME = re.compile(r"[0-9a-f]{62}")
_FOLDER = re.compile(r"[0-9a-f]{2}")


class BlobStore(Protocol):
    """Files by SHA-256 (64 hex digits)."""

    def put(self, path: Path) -> str:
        """Store a copy of a file, durably; give its SHA-256."""
        ...

    def fetch(self, sha256: str, destination: Path) -> int:
        """Copy a stored file to a path that does not exist yet, verified; give its size in bytes."""
        ...

    def exists(self, sha256: str) -> bool:
        """Say whether a file of this name is stored, without reading it."""
        ...

    def verify(self, sha256: str) -> int:
        """Read a stored file and compare it with its name; give its size in bytes."""
        ...

    def iterate(self) -> Iterator[str]:
        """Give the SHA-256 of every stored file, sorted."""
        ...

    def locate(self, sha256: str) -> str:
        """Say where a file of this name is or would be, for a person to look at."""
        ...


class FileStore:
    """A folder of files ``ab/cdef…``, named by their SHA-256 and read-only."""

    def __init__(self, root: Path) -> None:
        """Use the folder, making it where it is missing, and clear copies that a killed process left unfinished."""
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        for left in self._incoming.iterdir():
            try:
                if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                    left.unlink()
            except FileNotFoundError:
                continue  # its writer was faster

    def put(self, path: Path) -> str:
        """
        Store a copy of a file; when this returns, the copy survives a power cut.

        A stored file of the same name that is damaged is replaced by the copy, which is known to be right.

        Raises:
            InvalidSourceError: The path is no file that can be read.
        """
        with open_source(path) as source:
            descriptor, name = tempfile.mkstemp(dir=self._incoming)
            incoming = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as sink:
                    sha256, _ = _hash(source, sink)
                    os.fchmod(sink.fileno(), 0o444)
                    sink.flush()
                    os.fsync(sink.fileno())
                target = self._path(sha256)
                target.parent.mkdir(exist_ok=True)
                if not self._is_sound(sha256):
                    os.replace(incoming, target)  # noqa: PTH105  os.replace is the documented atomic call
                # Also when another process stored the file: it may not have come so far yet.
                _sync_folder(target.parent)
                _sync_folder(self._root)
            finally:
                incoming.unlink(missing_ok=True)
        return sha256

    def fetch(self, sha256: str, destination: Path) -> int:
        """
        Copy a stored file, hashing what is copied; a copy that is wrong does not stay.

        Raises:
            FileMissingError: No such file is stored.
            FileDamagedError: It does not hash to its name.
        """
        with self._open(sha256) as source:
            try:
                with destination.open("xb") as sink:
                    actual, size = _hash(source, sink)
                self._check(sha256, actual)
            except FileExistsError:
                raise
            except BaseException:
                destination.unlink(missing_ok=True)
                raise
        return size

    def exists(self, sha256: str) -> bool:
        """Say whether a file of this name is stored, without reading it."""
        return self._path(sha256).is_file()

    def verify(self, sha256: str) -> int:
        """
        Read a stored file and compare it with its name; give its size in bytes.

        Raises:
            FileMissingError: No such file is stored.
            FileDamagedError: It does not hash to its name.
        """
        with self._open(sha256) as source:
            actual, size = _hash(source)
        self._check(sha256, actual)
        return size

    def iterate(self) -> Iterator[str]:
        """Give the SHA-256 of every stored file, sorted; files with other names are not the store's."""
        for folder in sorted(self._root.iterdir()):
            if _FOLDER.fullmatch(folder.name):
                yield from (folder.name + file.name for file in sorted(folder.iterdir()) if _NAME.fullmatch(file.name))

    def locate(self, sha256: str) -> str:
        """Give the stored file's path."""
        return str(self._path(sha256))

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256[2:]

    def _open(self, sha256: str) -> BinaryIO:
        try:
            return self._path(sha256).open("rb")
        except FileNotFoundError as exc:
            raise FileMissingError(f"The stored file {self.locate(sha256)} is gone. Put it back from a backup or a replica.") from exc
        except OSError as exc:
            raise FileDamagedError(f"The stored file {self.locate(sha256)} cannot be read: {exc.strerror}.") from exc

    def _check(self, sha256: str, actual: str) -> None:
        if actual != sha256:
            raise FileDamagedError(
                f"The stored file {self.locate(sha256)} hashes to {actual}, not to its name: its bytes were changed. "
                "Put it back from a backup, or register the same file again."
            )

    def _is_sound(self, sha256: str) -> bool:
        try:
            self.verify(sha256)
        except (FileMissingError, FileDamagedError):
            return False
        return True


def hash_file(path: Path) -> tuple[str, int]:
    """
    Give a file's SHA-256 in hex and its size in bytes.

    Raises:
        InvalidSourceError: The path is no file that can be read.
    """
    with open_source(path) as source:
        return _hash(source)


def open_source(path: Path) -> BinaryIO:
    try:
        if path.exists() and not path.is_file():
            raise InvalidSourceError(f"{path} is not a regular file; expected a file to store.")
        return path.open("rb")
    except OSError as exc:
        raise InvalidSourceError(f"{path} cannot be read: {exc.strerror}.") from exc


def _hash(source: BinaryIO, sink: BinaryIO | None = None) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        if sink is not None:
            sink.write(chunk)
    return digest.hexdigest(), size


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
