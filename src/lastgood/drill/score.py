"""What drills measured: each one's outcome, quantiles of many, and gauges for Prometheus."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

MEASURED: Final = ("requests_to_decision", "bad_answers", "seconds_to_restored", "failed_after_restore")
_QUANTILES: Final = {"median": 0.5, "p95": 0.95, "most": 1.0}
_HELP: Final = {
    "runs": "Drills that were played.",
    "passed": "Drills that ended as they must.",
    "requests_to_decision": "Requests dealt since the bad version got its share until it was taken back.",
    "bad_answers": "Answers of those that met the fault.",
    "seconds_to_restored": "From the deciding answer until the good version served again.",
    "failed_after_restore": "Of the requests sent afterwards, those that failed.",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one drill measured."""

    fault: str
    expected: str
    found: str
    requests_to_decision: int  # dealt since the bad version got its share, the deciding one included; all of them where nothing was decided
    bad_answers: int  # of those, the ones that met the fault: without a usable answer, late, or wrong
    seconds_to_restored: float | None  # from the deciding request's answer until the gateway says who serves again
    failed_after_restore: int  # of 200 further requests
    restored: str  # reference of the version that serves now
    withdrawn: str | None
    event: str | None  # hash of the withdrawal's event
    receipt: dict[str, Any] | None
    passed: bool
    seed: int = 0


def summarize(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Give how many drills there were and ended as they must, and median, 95th percentile and most of each figure."""
    summary: dict[str, Any] = {"runs": len(outcomes), "passed": sum(own.passed for own in outcomes)}
    for name in MEASURED:
        values = [float(value) for own in outcomes if (value := getattr(own, name)) is not None]
        summary[name] = find_quantiles(values) if values else None
    return summary


def find_quantiles(values: Sequence[float]) -> dict[str, float]:
    """Give median, 95th percentile and most of one figure or more."""
    return {kind: float(np.quantile(values, at)) for kind, at in _QUANTILES.items()}


def write_metrics(outcomes: Sequence[Outcome], file: Path) -> None:
    """
    Write the summary of drills of one fault in Prometheus' text format, as node_exporter's textfile collector reads it.

    The collector must never see half of a file: it is replaced at once.
    """
    summary = summarize(outcomes)
    fault = outcomes[0].fault
    lines = []
    for name, text in _HELP.items():
        value = summary[name]
        if value is None:
            continue
        lines += [f"# HELP lastgood_drill_{name} {text}", f"# TYPE lastgood_drill_{name} gauge"]
        if isinstance(value, dict):
            lines += [f'lastgood_drill_{name}{{fault="{fault}",quantile="{_QUANTILES[kind]:g}"}} {own!r}' for kind, own in value.items()]
        else:
            lines.append(f'lastgood_drill_{name}{{fault="{fault}"}} {value}')
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.write_text("\n".join(lines) + "\n", "utf-8")
    fresh.replace(file)
