"""Cutting a file into segments while it is read: its tensors where they lie, what is between them where its content says."""

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, Final

from lastgood.registry.store.chunks import find_cuts
from lastgood.registry.store.layout import Tensor
from lastgood.registry.store.manifest import Manifest, Part, Stored
from lastgood.registry.store.segments import SEGMENT_BYTES_MAX, Segments

WAITING_BYTES: Final = 64 << 20  # that are read and not yet written
_READ_BYTES: Final = 4 << 20
TensorKey = tuple[str, str, tuple[int, ...]]  # name, type, shape


class Cutting:
    """One file that is being stored."""

    def __init__(self, segments: Segments, pool: ThreadPoolExecutor, before: Mapping[TensorKey, Stored]) -> None:
        """Write its segments there, with threads of the pool, as differences to tensors of the file before it where that is smaller."""
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
        while self._waiting_bytes > WAITING_BYTES:
            self._wait()
        return future, len(data)

    def _wait(self) -> None:
        future, nbytes = self._waiting.popleft()
        self._waiting_bytes -= nbytes
        future.result()
