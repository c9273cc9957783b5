"""
What a prediction log holds on disk, and what of it goes: the oldest files beyond its size, and those beyond its age.

The folders are listed once an hour, not at each write: a log may have a hundred thousand files.
"""

import bisect
import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from lastgood.monitoring.predictions.columns import file_name, list_files

_LISTED_SECONDS: Final = 3_600.0  # somebody may make room by hand


class _File(NamedTuple):
    name: str  # begins with the time of its last row: the order of names is that of time
    folder: Path
    size: int


class Retention:
    """The files of one log, for the one process that writes it."""

    def __init__(self, folders: Sequence[Path], *, max_bytes: int, max_seconds: float) -> None:
        """
        Prepare; nothing is read yet.

        Args:
            folders: Where files lie; what one weighs counts for all of them.
            max_bytes: Size of all files.
            max_seconds: Age of the last row of a file.
        """
        self._folders = folders
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._files: list[_File] = []  # by name
        self._bytes = 0
        self._listed_at = -math.inf  # monotonic time in seconds

    def add(self, path: Path, size: int) -> None:
        """
        Take note of a file that was written just now, and remove what has to go for it.

        Raises:
            OSError: The folders cannot be listed, or a file not removed.
        """
        now = time.monotonic()
        if now - self._listed_at >= _LISTED_SECONDS:
            self._files, self._listed_at = sorted(self._look()), now
            self._bytes = sum(file.size for file in self._files)
        else:
            bisect.insort(self._files, _File(path.name, path.parent, size))
            self._bytes += size
        self._remove()

    def _look(self) -> Iterator[_File]:
        for folder in self._folders:
            for path in list_files(folder):
                with contextlib.suppress(FileNotFoundError):  # somebody makes room by hand
                    yield _File(path.name, folder, path.stat().st_size)

    def _remove(self) -> None:
        least = file_name(datetime.now(UTC) - timedelta(seconds=self._max_seconds), 0)
        files = self._files
        while files and (self._bytes > self._max_bytes or files[0].name < least):
            name, folder, size = files[0]
            (folder / name).unlink(missing_ok=True)
            del files[0]
            self._bytes -= size
