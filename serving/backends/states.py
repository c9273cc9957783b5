"""What the kernel says of a process that may be a replica."""

from pathlib import Path
from typing import Final

STOPPED: Final = frozenset({"T", "t"})  # by a signal, or by whoever traces it


def read_states(pid: int | None) -> set[str]:
    """Give the states of a process's threads as the kernel's letters; none where it cannot be seen."""
    states = set()
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            # The name in brackets may hold anything, brackets too.
            states.add((task / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[0])
    except (OSError, IndexError):  # it, or a thread of it, ended meanwhile: its end is told otherwise
        return set()
    return states


def is_stopped(pid: int | None) -> bool:
    """Say whether every thread of a process is stopped, so that it does nothing until somebody lets it."""
    states = read_states(pid)
    return bool(states) and states <= STOPPED
