"""
The sign of life of a replica: a number in shared memory that a thread of its own counts up.

The thread needs the interpreter for a moment only, and ONNX Runtime lets go of that while it computes: so the heart beats through a
batch of many seconds, and stands still when the process is stopped, frozen, or stuck in code that does not let go.
"""

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BEAT_SECONDS: Final = 0.05
_BEATS: Final = struct.Struct("<Q")


def make_heart() -> int:
    """
    Give the descriptor of the memory that beats are counted in; made by the gateway.

    Raises:
        OSError: There is no memory or descriptor left.
    """
    heart = os.memfd_create("lastgood-heart", os.MFD_CLOEXEC)
    try:
        os.posix_fallocate(heart, 0, _BEATS.size)
    except OSError:
        os.close(heart)
        raise
    return heart


def read_beats(heart: int) -> int | None:
    """Give how often it has beaten; None where the other side took the memory away."""
    # Read, not mapped: memory that a broken replica shrank is then no SIGBUS.
    data = os.pread(heart, _BEATS.size, 0)
    return _BEATS.unpack(data)[0] if len(data) == _BEATS.size else None


@contextmanager
def beating(heart: int) -> Iterator[None]:
    """Beat until left; the descriptor is closed then."""
    enough = threading.Event()
    thread = threading.Thread(target=_beat, args=(heart, enough), name="heart", daemon=True)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
        os.close(heart)


def _beat(heart: int, enough: threading.Event) -> None:
    (beats,) = _BEATS.unpack(os.pread(heart, _BEATS.size, 0))
    while not enough.wait(BEAT_SECONDS):
        beats += 1
        os.pwrite(heart, _BEATS.pack(beats), 0)
