"""
Swaps and rollbacks under constant load: nothing failed, wrong, hung, or attributed to another version; and nothing that grows.

    python benchmarks/swaps.py [--swaps 20] [--per-second 1000] [--calm 10] [--json]

Each swap rolls a new version out (direct, then promoted), each rollback takes it back to the first version. Swaps follow each
other at once; before, in the middle and after the load goes on without any. Latencies are the 99th percentiles of windows of
a second, of which the median is compared. Memory, descriptors and processes are the gateway's, after each rollback of the second half.
"""

import argparse
import asyncio
import json
import statistics
import sys
from dataclasses import dataclass, field
from typing import Any, Final

from place import MODEL, NEVER, Load, Place, constant_load, open_place, print_figures, until
from vitals import Line, Vital, find_children, find_window_quantiles, fit_line, look

from lastgood.serving.client import Control

WINDOW_SECONDS: Final = 1.0
MOST_TIMES: Final = 4.0  # the p99 while swapping, of the one without
MOST_BYTES: Final = 20_000  # a swap, that the gateway may grow by
SETTLE_SECONDS: Final = 20.0  # until what was put away has ended
LEAST_SWAPS: Final = 40  # half of fewer say nothing about a slope


@dataclass
class Seen:
    """What was seen of the gateway: stretches of time (loop times), and what it held after each swap."""

    calm: list[tuple[float, float]] = field(default_factory=list)
    swapping: list[tuple[float, float]] = field(default_factory=list)
    after: list[Vital] = field(default_factory=list)  # each rollback of the second half
    settled: list[tuple[Vital, int]] = field(default_factory=list)  # before and after that half, with the number of processes


async def swap(place: Place, swaps: int, per_second: float, calm_seconds: float) -> dict[str, Any]:
    """Swap and roll back that often; give what the load saw, and what the gateway held."""
    seen = Seen()
    half = swaps // 2
    with place.control() as control:
        place.deploy(control, 1)
        await until(control, "soaking")
        async with constant_load(place.settings.port_rest, per_second=per_second) as load:
            await until(control, "stable")
            await rest(seen, calm_seconds)
            await churn(place, control, load, seen, range(2, half + 2))
            await rest(seen, calm_seconds)
            seen.settled.append(await settle(place))
            await churn(place, control, load, seen, range(half + 2, swaps + 2), note=True)
            await rest(seen, calm_seconds)
            seen.settled.append(await settle(place))
            live = control.state(MODEL)["live"]["number"]
    return {**load.summary(), "swaps": swaps, "live": live, "versions_seen": len(load.by_version), **measure(load, seen)}


async def rest(seen: Seen, seconds: float) -> None:
    """Let the load go on without swaps."""
    begin = asyncio.get_running_loop().time()
    await asyncio.sleep(seconds)
    seen.calm.append((begin, asyncio.get_running_loop().time()))


async def churn(place: Place, control: Control, load: Load, seen: Seen, numbers: range, *, note: bool = False) -> None:
    """Swap to each version, and back as soon as it has answered; ``note`` what the gateway holds then."""
    loop, pid = asyncio.get_running_loop(), place.pid()
    begin = loop.time()
    for number in numbers:
        await asyncio.to_thread(place.deploy, control, number, strategy="direct", soak_requests=NEVER)
        await until(control, "soaking")
        await asyncio.to_thread(control.promote, MODEL, actor="benchmark", why="swap")
        async with asyncio.timeout(SETTLE_SECONDS):
            while str(number) not in load.by_version:
                await asyncio.sleep(0.001)
        await asyncio.to_thread(control.rollback, MODEL, to=None, keep=True, actor="benchmark", why="back")
        if note and pid is not None and (vital := look(pid)) is not None:
            seen.after.append(vital)
    seen.swapping.append((begin, loop.time()))


async def settle(place: Place) -> tuple[Vital, int]:
    """Wait until what was put away has ended: the same twice in a row, half a second apart; give what the gateway holds then."""
    pid = place.pid()
    last: tuple[int, int] | None = None
    async with asyncio.timeout(SETTLE_SECONDS):
        while True:  # the end of another process's children has no event here
            vital = None if pid is None else look(pid)
            if pid is None or vital is None:
                raise SystemExit("the gateway has gone")
            now = (vital.descriptors, len(find_children(pid)))
            if now == last:
                return vital, now[1]
            last = now
            await asyncio.sleep(0.5)


def measure(load: Load, seen: Seen) -> dict[str, Any]:
    """Give latencies by stretch, and what grew."""
    moments = [(came, came - sent) for sent, came in load.good]

    def find(stretches: list[tuple[float, float]]) -> list[float]:
        return [own * 1000 for begin, end in stretches for own in find_window_quantiles(moments, begin, end, WINDOW_SECONDS, 0.99)]

    calm, swapping = find(seen.calm), find(seen.swapping)
    times = statistics.median(swapping) / statistics.median(calm)
    seconds = sum(end - begin for begin, end in seen.swapping)
    (before, processes_before), (after, processes_after) = seen.settled
    line = fit_line(range(len(seen.after)), [vital.rss_bytes for vital in seen.after]) if 2 * len(seen.after) >= LEAST_SWAPS else None
    return {
        "statuses": dict(load.statuses),
        "seconds_a_swap": round(seconds / max(1, 2 * len(seen.after)), 3),
        "calm_p99_ms": [round(statistics.median(find([own])), 2) for own in seen.calm],
        "swapping_p99_ms": [round(statistics.median(find([own])), 2) for own in seen.swapping],
        "worst_window_ms": {"calm": round(max(calm), 1), "swapping": round(max(swapping), 1)},
        "times": round(times, 2),
        "rss_mb": [round(vital.rss_bytes / 1e6, 1) for vital in (before, after)],
        "bytes_a_swap": None if line is None else [round(own) for own in (line.slope, line.low, line.high)],
        "descriptors": [before.descriptors, after.descriptors],
        "threads": [before.threads, after.threads],
        "processes": [processes_before, processes_after],
    }


def find_missed(result: dict[str, Any]) -> list[str]:
    """Name what is not as asked."""
    missed = [name for name in ("failed", "wrong", "hung", "misattributed") if result[name]]
    missed += [name for name in ("descriptors", "processes") if result[name][1] > result[name][0]]
    if result["times"] > MOST_TIMES:
        missed.append("times")
    if result["bytes_a_swap"] is not None and result["bytes_a_swap"][0] > MOST_BYTES:
        missed.append("bytes_a_swap")
    return missed


def print_result(result: dict[str, Any]) -> None:
    """Print the table."""

    def pair(name: str) -> str:
        return " and ".join(str(own) for own in result[name])

    grown = result["bytes_a_swap"]
    line = "too few swaps" if grown is None else Line(grown[0], grown[2] - grown[0]).write(1000)
    rows = [(name, "0", str(result[name])) for name in ("failed", "wrong", "hung", "misattributed")]
    rows += [
        ("requests", "-", f"{result['asked']:,}"),
        ("versions that answered", str(result["swaps"] + 1), str(result["versions_seen"])),
        ("seconds for a swap and its rollback", "-", str(result["seconds_a_swap"])),
        ("p99 ms without swaps: before, between, after", "-", ", ".join(str(own) for own in result["calm_p99_ms"])),
        ("p99 ms while swapping: first and second half", "-", pair("swapping_p99_ms")),
        ("the latter over the former, times", f"{MOST_TIMES:g}", str(result["times"])),
        (
            "worst second's p99 ms, without and while",
            "-",
            f"{result['worst_window_ms']['calm']} and {result['worst_window_ms']['swapping']}",
        ),
        ("of the second half: KB a swap (95 % interval)", f"{MOST_BYTES / 1000:g}", line),
        ("resident MB, before and after", "-", pair("rss_mb")),
        ("descriptors, before and after", "the same", pair("descriptors")),
        ("threads, before and after", "-", pair("threads")),
        ("processes under it, before and after", "the same", pair("processes")),
    ]
    print_figures(f"{result['swaps']} swaps and {result['swaps']} rollbacks under load", rows)


def main() -> int:
    """Run, print, and say by the exit code whether all was as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--per-second", type=float, default=1000.0, help="requests")
    parser.add_argument("--calm", type=float, default=10.0, help="seconds without swaps: before, in the middle and after")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with open_place(arguments.swaps + 1) as place:
        result = asyncio.run(swap(place, arguments.swaps, arguments.per_second, arguments.calm))
    result["missed"] = find_missed(result)
    if arguments.json:
        print(json.dumps(result))
    else:
        print_result(result)
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
