"""
A gateway under mixed load for a long time: everything is answered rightly, and nothing grows.

    python benchmarks/soak.py [--minutes 60] [--rate 1] [--json] [--docs]

REST with text and with bytes, gRPC, pipelined and large requests, labels, wrong requests, and clients that leave in the middle;
every half minute a canary that is rolled back while it soaks, every second a scrape of the metrics. Each answer is compared.
Flat is what the line through the resident memory of the last half does not rise by more than is said, with the 95 % interval
beside. The observer holds requests that labels may still come for, 200,000 of them: until then it may grow by that.
``--docs`` draws docs/soak.svg.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
from place import MODEL, NEVER, Place, open_place, print_figures, until
from soak_load import Mixed, list_clients
from soak_model import build
from soak_watch import MOST_GROWTH, Sample, Watcher

from lastgood.monitoring.predictions.join import REMEMBERED
from lastgood.render import draw_lines
from lastgood.serving.client import Control

DOCS: Final = Path(__file__).parents[1] / "docs"
RELEASE_SECONDS: Final = 30.0
ALL_ROWS: Final = 1e6  # a second: every request is observed, so that what the observer may remember is full before the half
REMEMBERED_BYTES: Final = 400  # of one request in the observer, its id included
LABELLED: Final = ("json", "binary", "grpc", "pipelined", "left")  # kinds whose requests the observer remembers, with the large ones


async def soak(place: Place, counts: Path, seconds: float, rate: float) -> tuple[dict[str, Any], list[Sample]]:
    """Soak for so long; give what the clients saw and what the processes held."""
    mixed = Mixed(place.settings.port_rest, place.settings.port_grpc, rate)
    watcher = Watcher(place, counts)
    with place.control() as control:
        await asyncio.to_thread(place.deploy, control, 1, strategy="direct", soak_requests=NEVER)
        await until(control, "soaking")
        await asyncio.to_thread(control.promote, MODEL, actor="benchmark", why="soak")
        watcher.find()
        async with beside(mixed, watcher) as scrapes:
            releases = await release(place, control, seconds)
            state, quality = control.state(MODEL), control.quality(MODEL)
    return {
        "minutes": round(seconds / 60, 2),
        "asked": dict(mixed.asked),
        "bad": dict(mixed.bad),
        "examples": mixed.examples,
        "releases": releases,
        "versions_seen": len(mixed.versions),
        "live": state["live"]["number"],
        "frozen": state["frozen"],
        "observed": {name: quality["log"][name] for name in ("rows", "dropped")},
        "scrapes": len(scrapes),
        "scrape_bytes": [max(scrapes[: len(scrapes) // 2]), max(scrapes[len(scrapes) // 2 :])],
        **watcher.measure(),
    }, watcher.samples


@contextlib.asynccontextmanager
async def beside(mixed: Mixed, watcher: Watcher) -> AsyncIterator[list[int]]:
    """Ask, watch and scrape until left; give the sizes of what was scraped."""
    scrapes: list[int] = []
    looking = [asyncio.create_task(watcher.run()), asyncio.create_task(scrape(watcher.place, scrapes))]
    async with asyncio.TaskGroup() as group:
        for client in list_clients(mixed):
            group.create_task(client)
        try:
            yield scrapes
        finally:
            mixed.stop.set()
            for task in looking:
                if task.done():
                    task.result()
                task.cancel()


async def scrape(place: Place, sizes: list[int]) -> None:
    """Scrape the metrics once a second."""
    async with httpx.AsyncClient(base_url=place.settings.control_url, timeout=20) as client:
        while True:
            sizes.append(len((await client.get("/metrics")).raise_for_status().content))
            await asyncio.sleep(1)


async def release(place: Place, control: Control, seconds: float) -> int:
    """Release a canary every half minute and take it back while it soaks; give how many."""
    loop = asyncio.get_running_loop()
    end, number = loop.time() + seconds, 1
    while (left := end - loop.time()) > 0:
        number += 1
        due = loop.time() + min(RELEASE_SECONDS, left)
        await asyncio.to_thread(place.deploy, control, number, steps=[0.2], step_requests=200, soak_requests=NEVER)
        await until(control, "soaking")
        await asyncio.sleep(max(0.0, due - loop.time()) / 2)
        await asyncio.to_thread(control.rollback, MODEL, to=None, keep=True, actor="benchmark", why="soak")
        await asyncio.sleep(max(0.0, due - loop.time()))
    return number - 1


def allow(result: dict[str, Any], name: str) -> float:
    """Give the bytes that a process may grow by in the last half."""
    if name != "observer":
        return MOST_GROWTH[name]
    remembered = sum(result["asked"].get(kind, 0) for kind in LABELLED)
    # What came in the last half and is not beyond what is remembered.
    return MOST_GROWTH[name] + REMEMBERED_BYTES * max(0, min(remembered, REMEMBERED) - min(remembered // 2, REMEMBERED))


def find_missed(result: dict[str, Any]) -> list[str]:
    """Name what is not as asked."""
    missed = [f"bad {kind}" for kind in result["bad"]]
    missed += [f"{name} grows" for name, own in result["processes"].items() if own["grew_bytes"][1] > allow(result, name)]
    missed += [f"{name}'s descriptors" for name, own in result["processes"].items() if own["descriptors"][1] > own["descriptors"][0] + 2]
    missed += [name for name in ("tasks", "under_it") if result[name][1] > result[name][0] + 4]
    if result["live"] != 1 or result["frozen"]:
        missed.append("rollbacks")
    return missed


def print_result(result: dict[str, Any]) -> None:
    """Print the table."""
    asked = ", ".join(f"{kind} {count:,}" for kind, count in sorted(result["asked"].items()))
    rows = [
        ("answered wrongly or not at all", "0", str(sum(result["bad"].values()))),
        ("canaries taken back; versions that answered", "-", f"{result['releases']}; {result['versions_seen']}"),
        ("scrapes; bytes, most of each half", "-", f"{result['scrapes']}; {result['scrape_bytes']}"),
        ("rows observed, dropped", "-", f"{result['observed']['rows']:,}, {result['observed']['dropped']:,}"),
    ]
    for name, own in result["processes"].items():
        grew, hour = ([f"{figure / unit:.2f}" for figure in own[key]] for key, unit in (("grew_bytes", 1e6), ("mb_an_hour", 1)))
        rows += [
            (f"{name}: MB grown in the last half (95 %)", f"{allow(result, name) / 1e6:.1f}", f"{grew[0]} ({grew[1]} to {grew[2]})"),
            (f"{name}: MB an hour (95 %)", "-", f"{hour[0]} ({hour[1]} to {hour[2]})"),
            (f"{name}: MB at first, at half, at last", "-", ", ".join(str(figure) for figure in own["rss_mb"])),
            (f"{name}: descriptors, most of each half", "the same", str(own["descriptors"])),
        ]
    rows += [("tasks; processes under it, most of each half", "the same", f"{result['tasks']}; {result['under_it']}")]
    print_figures(f"{result['minutes']:g} minutes: {asked}", rows)
    for example in result["examples"]:
        print(f"  {example}")


def draw(samples: list[Sample]) -> str:
    """Draw memory over time as SVG, at most 200 points a line."""
    some = samples[:: max(1, len(samples) // 200)]
    lines = {name: [(own.seconds / 60, own.vitals[name].rss_bytes / 1e6) for own in some] for name in MOST_GROWTH}
    return draw_lines("Resident memory under mixed load, releases and rollbacks", lines, x_label="minutes", y_label="MB")


def main() -> int:
    """Run, print, and say by the exit code whether all was as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=1.0, help="1: some 400 requests a second")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--docs", action="store_true", help="draw docs/soak.svg")
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lastgood-soak-") as folder:
        counts = Path(folder) / "tasks"
        command = (sys.executable, str(Path(__file__).with_name("counted_gateway.py")), str(counts))
        versions = int(seconds // RELEASE_SECONDS) + 3
        with open_place(versions, command=command, build=build, predictions={"rows_per_second": ALL_ROWS}, grpc=True) as place:
            result, samples = asyncio.run(soak(place, counts, seconds, arguments.rate))
    print(f"{time.monotonic() - began:.0f} s in all", file=sys.stderr)
    result["missed"] = find_missed(result)
    if arguments.docs:
        DOCS.joinpath("soak.svg").write_text(draw(samples) + "\n", "utf-8")
    if arguments.json:
        print(json.dumps(result))
    else:
        print_result(result)
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
