"""A file's SHA-256, read in pieces."""

import hashlib
from pathlib import Path
from typing import BinaryIO, Final

from lastgood.registry.errors import InvalidSourceError

_CHUNK_BYTES: Final = 1 << 20


def hash_file(path: Path) -> tuple[str, int]:
    """
    Give a file's SHA-256 in hex and its size in bytes.

    Raises:
        InvalidSourceError: The path is no file that can be read.
    """
    digest, size = hashlib.sha256(), 0
    with open_source(path) as source:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def open_source(path: Path) -> BinaryIO:
    """Open a file that is to be stored; raises as `hash_file`."""
    try:
        if path.exists() and not path.is_file():
            raise InvalidSourceError(f"{path} is not a regular file; expected a file to store.")
        return path.open("rb")
    except OSError as exc:
        raise InvalidSourceError(f"{path} cannot be read: {exc.strerror}.") from exc
