"""
What a replica may use of the machine's memory, so that running out of it is the replica's end and nobody else's.

The limit is of the process's data (RLIMIT_DATA: what it has mapped for itself alone and may write). Its address space would be
a poor measure, for libraries and memory shared with the gateway count there. A control group would count better, but only a
delegated one can be made without being root; a replica in a container has its engine's.
"""

import os
import resource
from pathlib import Path
from typing import Final, NoReturn

OUT_OF_MEMORY_STATUS: Final = 112
_MORE_LIKELY: Final = 500  # added to the gateway's own score, of 1000
_SCORE: Final = Path("/proc/self/oom_score_adj")
# ONNX Runtime has no class for it.
_WORDS: Final = ("Failed to allocate memory", "bad allocation", "bad_alloc")


def step_forward() -> None:
    """Let the kernel, when it has to end a process for its memory, choose this one before the gateway that started it."""
    try:
        _SCORE.write_text(str(min(1000, int(_SCORE.read_text()) + _MORE_LIKELY)))
    except OSError as exc:  # no /proc, or one that cannot be written: the kernel decides by size alone
        os.write(2, f"{_SCORE} cannot be written ({exc.strerror}): this replica is no likelier to be ended than others\n".encode())


def limit_data(limit_bytes: int) -> None:
    """Let every allocation fail that would take this process's data over the limit; for good."""
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def is_limited() -> bool:
    """Say whether `limit_data` was called."""
    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY


def ran_out(error: BaseException | None) -> bool:
    """Say whether an error, or the one it was raised from, is for want of memory."""
    if error is None:
        return False
    return isinstance(error, MemoryError) or any(words in str(error) for words in _WORDS) or ran_out(error.__cause__)


def give_up() -> NoReturn:
    """End at once: what tidies up needs memory too."""
    os._exit(OUT_OF_MEMORY_STATUS)
