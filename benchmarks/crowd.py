"""
A dead version under load: a real gateway, 64 requests in flight, a candidate at 10 % that fails every request.

    python benchmarks/crowd.py [--repeat 10] [--share 0.1] [--json]
    python benchmarks/crowd.py --good [--repeat 20] [--requests 100000] [--json]

Counts every answer that was not one, also those in flight when the judge decided, and what fails after the switch. With
``--good`` the candidate is as good as the baseline, and what is counted is how often it is taken out or suspected.
"""

import argparse
import asyncio
import json
import statistics
import sys
from typing import Any

from place import NEVER, Place, constant_load, open_place, print_figures, until

IN_FLIGHT = 64
MOST_BAD = 5 + IN_FLIGHT


async def play(place: Place, share: float) -> dict[str, Any]:
    """Roll the dead version out under load; give what callers saw until it was out."""
    with place.control() as control:
        async with constant_load(place.settings.port_rest, connections=IN_FLIGHT, per_second=1e9) as load:
            place.deploy(control, 1, strategy="direct")
            await until(control, "stable")
            before = load.failed
            place.deploy(control, 2, steps=[share], step_requests=NEVER)
            await until(control, "withdrawn", seconds=30)
            await asyncio.sleep(0.5)
            bad, asked = load.failed - before, load.asked
            await asyncio.sleep(0.5)
            after = load.failed - before - bad
    return {"bad_answers": bad, "failed_after": after, "answered_after": load.asked - asked}


async def play_good(place: Place, requests: int) -> dict[str, Any]:
    """Roll a good version out under load, by the default steps, until so many requests were answered in the soak."""
    with place.control() as control:
        async with constant_load(place.settings.port_rest, connections=IN_FLIGHT, per_second=1e9) as load:
            place.deploy(control, 1, strategy="direct")
            await until(control, "stable")
            place.deploy(control, 2, steps=[0.1, 0.5], step_requests=200, soak_requests=NEVER)
            begun, failed, suspected = load.asked, load.failed, False
            while load.asked < begun + requests:
                await asyncio.sleep(0.25)
                rollout = await asyncio.to_thread(lambda: control.state("scale")["rollout"])
                suspected |= rollout["suspected"]
                if rollout["state"] == "withdrawn":
                    break
    return {
        "withdrawn": rollout["state"] == "withdrawn",
        "suspected": suspected,
        "requests": load.asked - begun,
        "failed": load.failed - failed,
    }


def main() -> int:
    """Run, print, and say by the exit code whether the median is as asked and nothing failed after the switch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--good", action="store_true")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.good:
        return measure_good(arguments)
    runs: list[dict[str, Any]] = []
    for _ in range(arguments.repeat):
        with open_place(2, start=False) as place:
            place.start((sys.executable, "-m", "lastgood.drill.gateway", place.digests[2], "dead"))
            runs.append(asyncio.run(play(place, arguments.share)))
    bad = [run["bad_answers"] for run in runs]
    after = sum(run["failed_after"] for run in runs)
    if arguments.json:
        print(json.dumps({"median": statistics.median(bad), "most": max(bad), "failed_after": after, "runs": runs}))
    else:
        rows = [
            ("bad answers, median and most", f"{MOST_BAD}", f"{statistics.median(bad):g} and {max(bad)}"),
            ("failed after the switch", "0", str(after)),
        ]
        print_figures(f"A dead version at {arguments.share:.0%}, {IN_FLIGHT} requests in flight, {arguments.repeat} times", rows)
    return 0 if statistics.median(bad) <= MOST_BAD and not after else 1


def measure_good(arguments: argparse.Namespace) -> int:
    """Roll good versions out, print, and say by the exit code whether none was taken out."""
    runs = []
    for _ in range(arguments.repeat):
        with open_place(2) as place:
            runs.append(asyncio.run(play_good(place, arguments.requests)))
    found = {name: sum(run[name] for run in runs) for name in ("withdrawn", "suspected", "requests", "failed")}
    if arguments.json:
        print(json.dumps({**found, "runs": runs}))
    else:
        asked = {"withdrawn": "0", "failed": "0"}
        rows = [(name, asked.get(name, "-"), f"{value:,}") for name, value in found.items()]
        print_figures(f"{arguments.repeat} good versions, {IN_FLIGHT} requests in flight", rows)
    return 1 if found["withdrawn"] else 0


if __name__ == "__main__":
    sys.exit(main())
