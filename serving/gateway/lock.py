"""One gateway in one home: two would remove each other's files and write one journal."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lastgood.errors import ConflictError

_DYING_SECONDS: Final = 3.0  # a killed process holds its locks until its last thread is gone
_POLL_SECONDS: Final = 0.05


class HomeTakenError(ConflictError):
    """Another gateway runs in the same home."""

    code = "serving.home-taken"


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """
    Hold the gateway's folder; the lock ends with the process, however it ends.

    Raises:
        HomeTakenError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + _DYING_SECONDS
        while not _try(descriptor):
            if time.monotonic() > deadline:
                holder = path.read_text("utf-8").strip() or "unknown"
                raise HomeTakenError(
                    f"Another gateway (process {holder}) runs in {folder.parent}. Stop it (lastgood down), or set LASTGOOD_HOME."
                )
            time.sleep(_POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
