"""A version's files on their way into the store: cut where their tensors lie, after the files that they come after."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from lastgood.registry.content import FileEntry
from lastgood.registry.errors import ContentMismatchError
from lastgood.registry.hashing import open_source
from lastgood.registry.store.locate.by_name import Files
from lastgood.registry.store.store import SegmentedStore


class FileSource:
    """An open file that locators read where they like."""

    def __init__(self, file: BinaryIO) -> None:
        """Read this one; it is the caller's to close."""
        self._descriptor = file.fileno()
        self.size = os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, count: int) -> bytes:
        """Read so many bytes from there; fewer only at the end."""
        return os.pread(self._descriptor, count, offset)


def store_files(entries: Iterable[FileEntry], files: Mapping[str, Path], blobs: SegmentedStore, before: Mapping[str, str]) -> None:
    """
    Store every file that is listed.

    Args:
        entries: As a content lists them.
        files: Where each one is now, by its path in the list.
        blobs: Where they go.
        before: SHA-256 of the files of the version that this one comes after, by path.

    Raises:
        ContentMismatchError: A file is not the one listed.
        InvalidSourceError: A file cannot be read.
    """
    with _open_all(files) as sources:
        located = Files(sources)
        for entry in entries:
            source = files[entry.path]
            stored = blobs.put(source, tensors=located.locate(entry.path), like=before.get(entry.path))
            if stored != entry.sha256 or source.stat().st_size != entry.size:
                raise ContentMismatchError(
                    f"{source} is not the file {entry.path!r} that is listed: it hashes to {stored}, expected {entry.sha256}."
                )


@contextmanager
def _open_all(files: Mapping[str, Path]) -> Iterator[dict[str, FileSource]]:
    with ExitStack() as stack:
        yield {path: FileSource(stack.enter_context(open_source(own))) for path, own in files.items()}
