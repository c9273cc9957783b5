"""What the processes of a gateway hold while they are soaked, second by second, and what grew in the last half."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from place import MODEL, Place
from vitals import Vital, find_children, fit_line, look

LOOK_SECONDS: Final = 1.0
OBSERVER: Final = "lastgood.serving.observer"
# Growth over the last half of the run, by the line through its figures, that is still called flat.
MOST_GROWTH: Final[Mapping[str, float]] = {"gateway": 2e6, "observer": 2e6, "replica": 2e6}


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: seconds since the begin, by process what it holds, the gateway's tasks, and all processes under it."""

    seconds: float
    vitals: Mapping[str, Vital]
    tasks: int
    processes: int


@dataclass
class Watcher:
    """Looks at the processes of a place."""

    place: Place
    counts: Path  # where the gateway writes how many tasks it has
    samples: list[Sample] = field(default_factory=list)
    pids: dict[str, int] = field(default_factory=dict)

    def find(self) -> None:
        """Find the processes that stay: gateway, observer, and the replica of the version that is live."""
        gateway = self.place.pid()
        if gateway is None:
            raise SystemExit("the gateway does not run")
        observer = next(pid for pid, command in find_children(gateway).items() if OBSERVER in command)
        with self.place.control() as control:
            replica = control.state(MODEL)["lanes"][0]["replicas"]["pids"][0]
        self.pids = {"gateway": gateway, "observer": observer, "replica": int(replica)}

    async def run(self) -> None:
        """Look once a second until cancelled; fails when one of the processes ends."""
        begin = time.monotonic()
        while True:
            vitals = {name: own for name, pid in self.pids.items() if (own := look(pid)) is not None}
            if gone := self.pids.keys() - vitals.keys():
                raise SystemExit(f"the {', '.join(sorted(gone))} ended while it was soaked")
            text = self.counts.read_text("ascii") if self.counts.exists() else ""
            processes = len(find_children(self.pids["gateway"]))
            self.samples.append(Sample(time.monotonic() - begin, vitals, int(text or 0), processes))
            await asyncio.sleep(LOOK_SECONDS)

    def measure(self) -> dict[str, Any]:
        """Give by process what grew in the last half, and the most of what should have a limit."""
        half = self.samples[len(self.samples) // 2 :]
        seconds = [own.seconds for own in half]
        found: dict[str, Any] = {}
        for name in self.pids:
            line = fit_line(seconds, [own.vitals[name].rss_bytes for own in half])
            took = seconds[-1] - seconds[0]
            found[name] = {
                "rss_mb": [round(own.vitals[name].rss_bytes / 1e6, 1) for own in (self.samples[0], half[0], half[-1])],
                "grew_bytes": [round(own * took) for own in (line.slope, line.low, line.high)],
                "mb_an_hour": [round(own * 3600 / 1e6, 2) for own in (line.slope, line.low, line.high)],
                "descriptors": _halves([own.vitals[name].descriptors for own in self.samples]),
                "threads": _halves([own.vitals[name].threads for own in self.samples]),
            }
        return {
            "processes": found,
            "tasks": _halves([own.tasks for own in self.samples]),
            "under_it": _halves([own.processes for own in self.samples]),
        }


def _halves(figures: list[int]) -> list[int]:
    """Give the most of each half."""
    middle = len(figures) // 2
    return [max(figures[:middle]), max(figures[middle:])]
