"""
kill -9 of the gateway, a replica, or the command line at random moments of a deploy and its rollback under load: the state
is one the table allows, what was taken out never serves again, the served digest and the event chain verify, nothing hangs.

    python benchmarks/kills.py [--kills 50] [--seed 1] [--json]
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
from typing import Any

import psutil
from crash_points import copy_place, look, prepare
from place import Place, constant_load, open_place, print_figures

from lastgood.stack.services import environment

VICTIMS = ("gateway", "replica", "command line")
LONGEST_SECONDS = 2.0  # most deploys and rollbacks are over by then


async def run_cli(place: Place, *arguments: str) -> asyncio.subprocess.Process:
    """Start a command of the installation."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lastgood",
        *arguments,
        cwd=place.settings.project,
        env={**os.environ, **environment(place.settings)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def deploy_and_roll_back(place: Place, running: list[asyncio.subprocess.Process]) -> bool:
    """Roll version 2 out and back by the command line; give whether the rollback was confirmed."""
    code = 0
    for arguments in (("deploy", "scale@2", "-m", "two", "--wait", "stable", "--wait-seconds", "10"), ("rollback", "scale", "-m", "back")):
        running[:] = [await run_cli(place, *arguments)]
        code = await running[0].wait()
    return code == 0


async def kill_once(origin: Place, number: int, source: random.Random) -> dict[str, Any]:
    """Kill one victim at one moment, repair as an init system would, and look."""
    place = copy_place(origin, number)
    victim, moment = VICTIMS[number % len(VICTIMS)], source.uniform(0, LONGEST_SECONDS)
    place.start()
    running: list[asyncio.subprocess.Process] = []
    try:
        async with constant_load(place.settings.port_rest, connections=4, per_second=400) as load:
            work = asyncio.create_task(deploy_and_roll_back(place, running))
            await asyncio.wait({work}, timeout=moment)
            victims = find(place, victim, running)
            if victims:
                os.kill(source.choice(victims), signal.SIGKILL)
            if victim == "gateway":
                place.stop()  # reads the end of the process
                place.start()
            confirmed = await work
        problems = await look(place, taken_out=confirmed)
        # A replica's or the command line's death loses no request; a gateway's own connections die with it.
        if victim != "gateway" and load.failed:
            problems.append(f"{load.failed} requests failed: {dict(load.statuses)}")
        problems += [f"{name}: {count}" for name, count in load.summary().items() if name in {"wrong", "misattributed", "hung"} and count]
        return {"victim": victim, "moment": round(moment, 3), "hit": bool(victims), "problems": problems}
    finally:
        place.stop()


def find(place: Place, victim: str, running: list[asyncio.subprocess.Process]) -> list[int]:
    """Give the process ids that are the victim now."""
    gateway = place.pid()
    if victim == "command line":
        return [process.pid for process in running if process.returncode is None]
    if gateway is None:
        return []
    if victim == "gateway":
        return [gateway]
    # The process kept in reserve is one of them: its death must cost nothing either.
    return [child.pid for child in psutil.Process(gateway).children() if "lastgood.serving.replica" in " ".join(child.cmdline())]


async def kill_many(kills: int, seed: int) -> list[dict[str, Any]]:
    """Kill that often."""
    source = random.Random(seed)
    results = []
    with open_place(2) as origin:
        await prepare(origin)
        for number in range(kills):
            results.append(await kill_once(origin, number, source))
            print(f"{number + 1}: {results[-1]}", file=sys.stderr)
    return results


def main() -> int:
    """Run, print, and say by the exit code whether every death was survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = asyncio.run(kill_many(arguments.kills, arguments.seed))
    problems = [f"{result['victim']} at {result['moment']} s: {problem}" for result in results for problem in result["problems"]]
    hits = sum(result["hit"] for result in results)
    if arguments.json:
        print(json.dumps({"kills": hits, "problems": problems}))
    else:
        print_figures("kill -9 at random moments", [("kills", str(arguments.kills), str(hits)), ("problems", "0", str(len(problems)))])
        for problem in problems:
            print(f"  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
