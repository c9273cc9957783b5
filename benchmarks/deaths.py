"""
The replica of a version ends at random moments under load: killed (SIGKILL), stopped (SIGSTOP), and out of memory (it allocates until its
limit), in turn. Every answer is compared; nothing is lost, hung or wrong, and the version computes again within a second.

    python benchmarks/deaths.py [--deaths 200] [--clients 16] [--seed 1] [--json]

Recovery is measured from the signal until the first good answer to a request that was sent after the replica had stopped answering.
Deaths are 2 to 3 s apart: a replica that dies sooner is started again with a pause.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from place import MODEL, NEVER, Load, Place, constant_load, open_place, print_figures, until

WAYS: Final = ("killed", "stopped", "out of memory")
HERE: Final = Path(__file__).parent
DEADLINE_SECONDS: Final = 10.0  # of the gateway
SPACING_SECONDS: Final = (2.0, 3.0)
MEMORY_BYTES: Final = 256 << 20


async def until_true(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait for something in another process that nobody announces; fails when it does not come."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # the state of a process has no event
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise SystemExit(f"{what}: not within {seconds} s") from None


def find_replicas(place: Place) -> list[int]:
    """Give the process ids of the version's replicas that are ready."""
    with place.control() as control:
        return [int(pid) for lane in control.state(MODEL)["lanes"] for pid in lane["replicas"]["pids"]]


def is_stopped(pid: int) -> bool:
    """Say whether no thread of a process answers any more: it is stopped, or gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] in "TZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def end_one(place: Place, way: str, flag: Path, source: random.Random) -> tuple[float, float]:
    """End a replica; give the loop times of the signal and of the moment from when on it cannot answer any more."""
    loop = asyncio.get_running_loop()
    pid = source.choice(await asyncio.to_thread(find_replicas, place))
    began = loop.time()
    if way == "out of memory":
        await asyncio.to_thread(flag.touch)
        await until_true(lambda: not flag.exists(), "a replica takes its flag away when it begins to allocate")
    else:
        os.kill(pid, signal.SIGKILL if way == "killed" else signal.SIGSTOP)
        await until_true(lambda: is_stopped(pid), f"process {pid} stops")
    return began, loop.time()


async def recover(load: Load, began: float, silent: float) -> float:
    """Give the seconds from the signal until the first good answer to a request that was sent when the replica was silent."""
    seen = len(load.good)

    def find() -> float | None:
        return next((answered for sent, answered in load.good[seen:] if sent >= silent), None)

    await until_true(lambda: find() is not None, "a good answer after a death", seconds=3 * DEADLINE_SECONDS)
    answered = find()
    assert answered is not None  # noqa: S101  # just seen
    return answered - began


async def end_many(place: Place, deaths: int, clients: int, seed: int, flag: Path) -> dict[str, Any]:
    """Serve version 1 to that many clients while its replica ends again and again; give what they saw."""
    source = random.Random(seed)
    recoveries: dict[str, list[float]] = {way: [] for way in WAYS}
    with place.control() as control:
        place.deploy(control, 1, soak_requests=NEVER)
        await until(control, "soaking")
    async with constant_load(place.settings.port_rest, connections=clients, per_second=400, answer_seconds=DEADLINE_SECONDS + 1) as load:
        await until_true(lambda: bool(load.good), "a first answer")
        for number in range(deaths):
            await asyncio.sleep(source.uniform(*SPACING_SECONDS))  # a random moment is what is wanted
            way = WAYS[number % len(WAYS)]
            began, silent = await end_one(place, way, flag, source)
            recoveries[way].append(await recover(load, began, silent))
            print(f"{number + 1}: {way}, {recoveries[way][-1]:.3f} s", file=sys.stderr)
    refused = {status: count for status, count in load.statuses.items() if status.isdecimal() and status != "200"}
    everything = {**recoveries, "all": [seconds for own in recoveries.values() for seconds in own]}
    return {
        "deaths": deaths,
        "asked": load.asked,
        "lost": load.statuses["connection lost"],
        "hung": load.hung,
        "wrong": load.wrong + load.misattributed,
        "refused": refused,
        "recovery": {way: summarize(seconds) for way, seconds in everything.items() if seconds},
        "longest_seconds": round(max(load.latencies), 3),
    }


def summarize(seconds: list[float]) -> dict[str, float]:
    """Give median, 95th percentile and most, in seconds."""
    p50, p95 = np.quantile(seconds, [0.5, 0.95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3), "max": round(max(seconds), 3)}


def run(deaths: int, clients: int, seed: int) -> dict[str, Any]:
    """Open a place whose replicas can be told to allocate, and end them."""
    with open_place(1, start=False, serving={"memory_bytes": MEMORY_BYTES}) as place:
        flag = place.settings.home / "allocate"
        place.command = (sys.executable, str(HERE / "greedy_gateway.py"), str(flag))
        place.start()
        return asyncio.run(end_many(place, deaths, clients, seed, flag))


def main() -> int:
    """Run, print, and say by the exit code whether all was as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deaths", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = run(arguments.deaths, arguments.clients, arguments.seed)
    if arguments.json:
        print(json.dumps(result))
    else:
        rows = [(name, "0", str(result[name])) for name in ("lost", "hung", "wrong")]
        rows.append(("refused, by status", "-", str(result["refused"] or 0)))
        rows += [
            (f"seconds to recover, {way}: p50, p95, max", "p95 1" if way == "all" else "-", f"{own['p50']}, {own['p95']}, {own['max']}")
            for way, own in result["recovery"].items()
        ]
        rows.append(("longest answer, seconds", str(DEADLINE_SECONDS), str(result["longest_seconds"])))
        print_figures(f"{result['deaths']} deaths of the only replica among {result['asked']} requests", rows)
    good = not any(result[name] for name in ("lost", "hung", "wrong")) and result["recovery"]["all"]["p95"] < 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
