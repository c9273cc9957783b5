"""How fast each file is on this host, measured so that a busy moment hurts all of them alike."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lastgood.runtime import Latency, measure_latency, open_session

Array = np.ndarray[Any, Any]


def measure_interleaved(
    files: Mapping[str, Path], row: Array, *, input_name: str, rounds: int = 9, seconds: float = 0.06
) -> dict[str, Latency]:
    """
    Time one row at a time on every file, in rounds, and take each quantile's median over the rounds.

    Args:
        files: ONNX files by variant; all take the same input.
        row: "1 feature…" float32.
        input_name: Of the graphs.
        rounds: How often each file has its turn.
        seconds: How long each turn lasts, after its warm-up.

    Returns:
        By variant, seconds per call with one row.
    """
    sessions = {name: open_session(file) for name, file in files.items()}
    feeds = {input_name: row}
    turns: dict[str, list[Latency]] = {name: [] for name in files}
    for _ in range(rounds):
        for name, session in sessions.items():
            turns[name].append(measure_latency(session, feeds, seconds=seconds))
    return {
        name: Latency(
            statistics.median(turn.p50_seconds for turn in own),
            statistics.median(turn.p95_seconds for turn in own),
            statistics.median(turn.p99_seconds for turn in own),
            own[0].rows,
            sum(turn.calls for turn in own),
        )
        for name, own in turns.items()
    }
