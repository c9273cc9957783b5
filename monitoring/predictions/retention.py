"""
What a prediction log holds on disk, and what of it goes: the oldest files beyond its size, and those beyond its age.

The folders are listed once an hour, not at each write, and of what is there only the oldest is kept in mind: a log may have a hundred
thousand files.
"""

import bisect
import contextlib
import heapq
import math
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from lastgood.monitoring.predictions.columns import SUFFIX, file_name

LISTED_SECONDS: Final = 3_600.0  # somebody may make room by hand
OLDEST: Final = 500  # files, those that go next


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
        self._oldest: list[_File] = []  # by name
        self._more = False  # whether there are others, which came after these
        self._bytes = 0  # of all
        self._listed_at = -math.inf  # monotonic time in seconds

    def add(self, path: Path, size: int) -> None:
        """
        Take note of a file that was written just now, and remove what has to go for it.

        Raises:
            OSError: The folders cannot be listed, or a file not removed.
        """
        if time.monotonic() - self._listed_at >= LISTED_SECONDS:
            self._list()
        else:
            self._bytes += size
            self._note(_File(path.name, path.parent, size))
        self._remove()

    def _list(self) -> None:
        self._listed_at = time.monotonic()
        self._oldest, self._more, self._bytes = [], False, 0
        found = list[_File]()
        for file in self._look():
            self._bytes += file.size
            found.append(file)
            if len(found) >= 2 * OLDEST:
                found, self._more = heapq.nsmallest(OLDEST, found), True
        self._oldest = sorted(found)[: OLDEST if self._more else None]

    def _look(self) -> Iterator[_File]:
        for folder in self._folders:
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # somebody makes room by hand
                        if entry.name.endswith(SUFFIX):
                            yield _File(entry.name, folder, entry.stat().st_size)

    def _note(self, file: _File) -> None:
        if self._more and (not self._oldest or file > self._oldest[-1]):
            return
        bisect.insort(self._oldest, file)
        if len(self._oldest) > 2 * OLDEST:
            del self._oldest[OLDEST:]
            self._more = True

    def _remove(self) -> None:
        least = file_name(datetime.now(UTC) - timedelta(seconds=self._max_seconds), 0)
        while True:
            if not self._oldest and self._more:
                self._list()
            if not self._oldest or (self._bytes <= self._max_bytes and self._oldest[0].name >= least):
                return
            name, folder, size = self._oldest[0]
            (folder / name).unlink(missing_ok=True)
            del self._oldest[0]
            self._bytes -= size
