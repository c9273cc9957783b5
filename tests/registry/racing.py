"""What several tests of a registry need: processes that begin together, and weights that change by small steps."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def run_at_once(program: Path, arguments: Sequence[Sequence[str]], *, seconds: float) -> None:
    """Run a program once for each list of arguments, all from the moment when every one is ready; each must end well and say nothing."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(program), *own], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for own in arguments
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        errors = [process.communicate(timeout=seconds)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert [(0, "")] * len(processes) == [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


def take_steps() -> Iterator["np.ndarray[Any, np.dtype[np.float32]]"]:
    """Give float32 weights, each a small step from the ones before."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=30_000).astype(np.float32)
    while True:
        yield values
        values = values + rng.normal(scale=1e-4, size=len(values)).astype(np.float32)
