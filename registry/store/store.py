"""
Files by SHA-256, kept as segments: a version costs what is new about it.

A file is cut where its tensors lie; what is between them, where its content says. Cutting is a matter of size alone: a file is read back
from its list of segments and hashed, whatever was thought of it when it was cut.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final

from lastgood.registry.errors import FileDamagedError, FileMissingError, InvalidSourceError, SegmentDamagedError
from lastgood.registry.hashing import hash_file, open_source
from lastgood.registry.store.chunks import find_cuts
from lastgood.registry.store.elements import Bytes
from lastgood.registry.store.layout import Tensor
from lastgood.registry.store.manifest import BETWEEN, Manifest, Part, Stored
from lastgood.registry.store.objects import Objects
from lastgood.registry.store.segments import SEGMENT_BYTES_MAX, Segments
from lastgood.registry.store.stored_file import REMEDY, StoredFile

FOLDER: Final = "files"
TENSOR_BYTES_MIN: Final = 4 << 10  # smaller ones are left between the others: a segment of their own would cost more than it saves
_READ_BYTES: Final = 4 << 20
_WAITING_BYTES: Final = 64 << 20  # that are read and not yet written
_Key = tuple[str, str, tuple[int, ...]]


class SegmentedStore:
    """Files by SHA-256 (64 hex digits); threads may share it."""

    def __init__(self, objects: Objects, *, workers: int | None = None) -> None:
        """
        Keep them there.

        Args:
            objects: Where segments and their lists are kept.
            workers: How many segments are made smaller or larger at the same time; default: one for each core.
        """
        self._objects = objects
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
            writing = _Writing(self._segments, pool, before)
            found = writing.take(source, size, [own for own in tensors if own.nbytes >= TENSOR_BYTES_MIN])
        if found != sha256:
            raise InvalidSourceError(f"{path} was changed while it was stored; nothing of it is kept. Store it again when it is written.")
        self._objects.settle()  # what a list names is there before the list
        self._objects.write(_path(sha256), writing.to_manifest(size).to_bytes())
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
        manifest = self._read_manifest(sha256)
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
        return StoredFile(self._segments, self._read_manifest(sha256))

    def exists(self, sha256: str) -> bool:
        """Say whether a file of this name is stored, without reading it."""
        return self._objects.exists(_path(sha256))

    def verify(self, sha256: str) -> int:
        """Read a stored file and compare it with its name; give its size in bytes. Errors as `fetch`."""
        manifest = self._read_manifest(sha256)
        self._copy(sha256, manifest, None)
        return manifest.size

    def iterate(self) -> Iterator[str]:
        """Give the SHA-256 of every stored file, sorted."""
        return (name.removeprefix(f"{FOLDER}/").replace("/", "") for name in self._objects.iterate(FOLDER))

    def locate(self, sha256: str) -> str:
        """Say where a file's list of segments is or would be."""
        return self._objects.locate(_path(sha256))

    def _is_sound(self, sha256: str) -> bool:
        try:
            self.verify(sha256)
        except (FileMissingError, FileDamagedError):
            return False
        return True

    def _read_manifest(self, sha256: str) -> Manifest:
        return Manifest.from_bytes(self._objects.read(_path(sha256)), where=self.locate(sha256))

    def _find_tensors(self, like: str | None) -> Mapping[_Key, Stored]:
        if like is None:
            return {}
        try:
            manifest = self._read_manifest(like)
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
            while waiting > _WAITING_BYTES:
                yield give()
        while ahead:
            yield give()

    def _find_damage(self, manifest: Manifest) -> None:
        for part, _, _, what in manifest.list_pieces():
            try:
                self._segments.read(part.sha256.hex())
            except SegmentDamagedError as exc:
                raise FileDamagedError(f"{what}: {exc} {REMEDY}") from exc


class _Writing:
    """One file that is being stored."""

    def __init__(self, segments: Segments, pool: ThreadPoolExecutor, before: Mapping[_Key, Stored]) -> None:
        self._segments = segments
        self._pool = pool
        self._before = before
        self._digest = hashlib.sha256()
        self._tensors: list[tuple[Tensor, list[tuple[Future[str], int]]]] = []
        self._rest: list[tuple[Future[str], int]] = []
        self._gap = bytearray()
        self._waiting = deque[tuple[Future[str], int]]()
        self._waiting_bytes = 0

    def take(self, source: BinaryIO, size: int, tensors: Sequence[Tensor]) -> str:
        """Read a file from its begin and write its segments; give the SHA-256 of what was read."""
        at = 0
        for tensor in tensors:
            if tensor.offset < at or tensor.offset + tensor.nbytes > size:
                continue
            self._take_gap(source, tensor.offset - at)
            self._take_tensor(source, tensor)
            at = tensor.offset + tensor.nbytes
        self._take_gap(source, None)
        self._cut_gap(last=True)
        while self._waiting:
            self._wait()
        return self._digest.hexdigest()

    def to_manifest(self, size: int) -> Manifest:
        """Give the list of what was written."""

        def list_parts(written: Sequence[tuple[Future[str], int]]) -> tuple[Part, ...]:
            return tuple(Part(bytes.fromhex(future.result()), nbytes) for future, nbytes in written)

        tensors = tuple(Stored(own.name, own.dtype, own.shape, own.offset, list_parts(parts)) for own, parts in self._tensors)
        return Manifest(size, tensors, list_parts(self._rest))

    def _take_gap(self, source: BinaryIO, count: int | None) -> None:
        while count is None or count > 0:
            data = self._read(source, _READ_BYTES if count is None else min(count, _READ_BYTES))
            if not data:
                return
            count = None if count is None else count - len(data)
            self._gap += data
            if len(self._gap) >= _READ_BYTES:
                self._cut_gap(last=False)

    def _cut_gap(self, *, last: bool) -> None:
        """Write whole chunks of what was gathered; the last of them may still grow."""
        start, ends = 0, find_cuts(self._gap)
        for end in ends if last else ends[:-1]:
            self._rest.append(self._submit(bytes(self._gap[start:end]), None, None))
            start = end
        del self._gap[:start]

    def _take_tensor(self, source: BinaryIO, tensor: Tensor) -> None:
        before = self._before.get((tensor.name, tensor.dtype, tensor.shape))
        left, parts = tensor.nbytes, list[tuple[Future[str], int]]()
        while left > 0 and (data := self._read(source, min(left, SEGMENT_BYTES_MAX))):
            parent = before.parts[len(parts)].sha256.hex() if before is not None and len(parts) < len(before.parts) else None
            parts.append(self._submit(data, tensor.dtype, parent))
            left -= len(data)
        self._tensors.append((tensor, parts))

    def _read(self, source: BinaryIO, count: int) -> bytes:
        data = source.read(count)
        self._digest.update(data)
        return data

    def _submit(self, data: bytes, dtype: str | None, parent: str | None) -> tuple[Future[str], int]:
        future = self._pool.submit(self._segments.write, data, dtype=dtype, parent=parent)
        self._waiting.append((future, len(data)))
        self._waiting_bytes += len(data)
        while self._waiting_bytes > _WAITING_BYTES:
            self._wait()
        return future, len(data)

    def _wait(self) -> None:
        future, nbytes = self._waiting.popleft()
        self._waiting_bytes -= nbytes
        future.result()


def _path(sha256: str) -> str:
    return f"{FOLDER}/{sha256[:2]}/{sha256[2:]}"
