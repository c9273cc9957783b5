"""
What a version's replicas take of this machine's memory.

Measured as PSS (proportional set size): what a process has alone, and its part of what it shares. Replicas share the pages of Python,
numpy and ONNX Runtime, so that the sum of their RSS would count these again for each; the sum of their PSS is what is really taken.
Where a process may not be looked into (a container of another user), and before a version was ever up, it is estimated.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lastgood.registry.content import Content

# A replica with a model of 16 KB has a PSS of 28 MB beside seven others and 34 MB alone, of which 25 MB are its own.
_BASE_BYTES: Final = 30 << 20
# ONNX Runtime keeps weights, packed copies of them, and its buffers: 3 to 4 times the file, for networks of 1 and 13 MB.
_FILE_FACTOR: Final = 4


def estimate_bytes(content: Content, replicas: int) -> int:
    """Say what that many replicas of a version may take, in bytes, from the size of its files."""
    return replicas * (_BASE_BYTES + _FILE_FACTOR * sum(entry.size for entry in content.files))


def measure_bytes(pids: Iterable[int]) -> int | None:
    """Give the PSS of processes together, in bytes; None where one of them is gone or may not be looked into."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
        except OSError:
            return None
        found = next((line for line in lines if line.startswith("Pss:")), None)
        if found is None:  # it has just ended: its memory is gone already
            return None
        total += int(found.split()[1]) << 10
    return total or None
