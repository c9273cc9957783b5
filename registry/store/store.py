"""
Files by SHA-256, kept as segments: a version costs what is new about it.

A file is cut where its tensors lie; what is between them, where its content says. Cutting is a matter of size alone: a file is read back
from its list of segments and hashed, whatever was thought of it when it was cut.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final

from lastgood.registry.errors import FileDamagedError, FileMissingError, InvalidSourceError, SegmentDamagedError
from lastgood.registry.hashing import hash_file, open_source
from lastgood.registry.store import segments
from lastgood.registry.store.cutting import WAITING_BYTES, Cutting, TensorKey
from lastgood.registry.store.elements import Bytes
from lastgood.registry.store.layout import Tensor
from lastgood.registry.store.manifest import BETWEEN, FOLDER, Manifest, Stored, path_of, read_manifest
from lastgood.registry.store.needed import Needed
from lastgood.registry.store.objects import Objects
from lastgood.registry.store.segments import Segments
from lastgood.registry.store.stored_file import REMEDY, StoredFile

TENSOR_BYTES_MIN: Final = 4 << 10  # smaller ones are left between the others: a segment of their own would cost more than it saves


class SegmentedStore:
    """Files by SHA-256 (64 hex digits); threads may share it."""

    def __init__(self, objects: Objects, *, workers: int | None = None) -> None:
        """
        Keep them there.

        Args:
            objects: Where segments and their lists are kept.
            workers: How many segments are made smaller or larger at the same time; default: one for each core.
        """
        self.objects = self._objects = objects
        self._segments = Segments(objects)
        self._workers = workers or os.cpu_count() or 1

    def put(self, path: Path, *, tensors: Sequence[Tensor] = (), like: str | None = None) -> str:
        """
        Store a copy of a file; when this returns, the copy survives a power cut.

        A stored file of the same bytes that is damaged is mended by the copy.

        Args:
            path: The file.
            tensors: Where its tensors lie, in order; wrong ones cost space and nothing else.
            like: SHA-256 of a stored file it comes after: tensors of the same name, type and shape are kept as differences where that is
                smaller.

        Returns:
            Its SHA-256.

        Raises:
            InvalidSourceError: The path is no file that can be read, or its bytes change meanwhile.
        """
        sha256, size = hash_file(path)
        if self._is_sound(sha256):
            return sha256
        before = self._find_tensors(like)
        with open_source(path) as source, ThreadPoolExecutor(self._workers, "store") as pool:
            writing = Cutting(self._segments, pool, before)
            found = writing.take(source, size, [own for own in tensors if own.nbytes >= TENSOR_BYTES_MIN])
        if found != sha256:
            raise InvalidSourceError(f"{path} was changed while it was stored; nothing of it is kept. Store it again when it is written.")
        self._objects.settle()  # what a list names is there before the list
        self._objects.write(path_of(sha256), writing.to_manifest(size).to_bytes())
        self._objects.settle()
        return sha256

    def fetch(self, sha256: str, destination: Path) -> int:
        """
        Copy a stored file, hashing what is copied; a copy that is wrong does not stay. Gives its size in bytes.

        Raises:
            FileMissingError: No such file is stored, or a segment of it is gone.
            FileDamagedError: It does not hash to its name; says in which tensor.
            FileExistsError: The destination is there.
        """
        manifest = read_manifest(self._objects, sha256)
        with destination.open("xb") as sink:
            try:
                self._copy(sha256, manifest, sink)
            except BaseException:
                destination.unlink(missing_ok=True)
                raise
        return manifest.size

    def open(self, sha256: str) -> StoredFile:
        """
        Give a stored file to read parts of.

        Raises:
            FileMissingError: No such file is stored.
            FileDamagedError: Its list of segments cannot be read.
        """
        return StoredFile(self._segments, read_manifest(self._objects, sha256))

    def exists(self, sha256: str) -> bool:
        """Say whether a file of this name is stored, without reading it."""
        return self._objects.exists(path_of(sha256))

    def verify(self, sha256: str) -> int:
        """Read a stored file and compare it with its name; give its size in bytes. Errors as `fetch`."""
        manifest = read_manifest(self._objects, sha256)
        self._copy(sha256, manifest, None)
        return manifest.size

    def iterate(self) -> Iterator[str]:
        """Give the SHA-256 of every stored file, sorted."""
        return (name.removeprefix(f"{FOLDER}/").replace("/", "") for name in self._objects.iterate(FOLDER))

    def locate(self, sha256: str) -> str:
        """Say where a file's list of segments is or would be."""
        return self._objects.locate(path_of(sha256))

    def list_objects(self) -> Iterator[str]:
        """Give the names of all objects that files are kept in."""
        for folder in (FOLDER, segments.FOLDER):
            yield from self._objects.iterate(folder)

    def begin_needed(self) -> Needed:
        """Give what tells the objects that files need."""
        return Needed(self._objects)

    def list_needed(self, sha256s: Iterable[str]) -> Iterable[str]:
        """Give the names of the objects that stored files need; errors as `Needed.add`."""
        needed = self.begin_needed()
        needed.add(sha256s)
        return needed

    def measure(self, name: str) -> tuple[int, float] | None:
        """Give an object's bytes and the time it was written, in seconds since 1970; None where there is none."""
        return self._objects.measure(name)

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; who asks knows that no file needs them."""
        self._objects.remove(names)

    def _is_sound(self, sha256: str) -> bool:
        try:
            self.verify(sha256)
        except (FileMissingError, FileDamagedError):
            return False
        return True

    def _find_tensors(self, like: str | None) -> Mapping[TensorKey, Stored]:
        if like is None:
            return {}
        try:
            manifest = read_manifest(self._objects, like)
        except (FileMissingError, FileDamagedError):  # then this file is kept alone, and `verify` says what is wrong with the other
            return {}
        return {(own.name, own.dtype, own.shape): own for own in manifest.tensors}

    def _copy(self, sha256: str, manifest: Manifest, sink: BinaryIO | None) -> None:
        digest = hashlib.sha256()
        with ThreadPoolExecutor(self._workers, "store") as pool:
            for piece in self._read_pieces(manifest, pool):
                digest.update(piece)
                if sink is not None:
                    sink.write(piece)
        if digest.hexdigest() != sha256:
            self._find_damage(manifest)
            raise FileDamagedError(f"The stored file {self.locate(sha256)} hashes to {digest.hexdigest()}, not to its name: {REMEDY}")

    def _read_pieces(self, manifest: Manifest, pool: ThreadPoolExecutor) -> Iterator[memoryview]:
        """Give the file's bytes in order, reading ahead."""
        ahead = deque[tuple[Future[Bytes], int, int, str]]()
        waiting, last = 0, dict[bytes, Future[Bytes]]()

        def give() -> memoryview:
            nonlocal waiting
            future, start, stop, what = ahead.popleft()
            waiting -= stop - start
            try:
                return memoryview(future.result())[start:stop]
            except SegmentDamagedError as exc:
                raise FileDamagedError(f"{what}: {exc} {REMEDY}") from exc

        for part, start, stop, what in manifest.list_pieces():
            future = last.get(part.sha256)
            if future is None:
                future = pool.submit(self._segments.read_unverified, part.sha256.hex())
                if what is BETWEEN:
                    last = {part.sha256: future}
            ahead.append((future, start, stop, what))
            waiting += stop - start
            while waiting > WAITING_BYTES:
                yield give()
        while ahead:
            yield give()

    def _find_damage(self, manifest: Manifest) -> None:
        for part, _, _, what in manifest.list_pieces():
            try:
                self._segments.read(part.sha256.hex())
            except SegmentDamagedError as exc:
                raise FileDamagedError(f"{what}: {exc} {REMEDY}") from exc
