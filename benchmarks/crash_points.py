"""
kill -9 of the gateway at every write of a deploy and of a rollback: the state is one the table allows, a version that was
taken out never serves again, the served digest and the event chain verify, and the rollout goes on.

    python benchmarks/crash_points.py [--every 1] [--json]
"""

import argparse
import asyncio
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from place import MODEL, Place, constant_load, exchange, open_place, print_figures, tensor, until

from lastgood.errors import LastgoodError
from lastgood.ports import free_ports
from lastgood.registry.registry import Registry
from lastgood.serving.client import Control
from lastgood.serving.rollout.table import State

HERE = Path(__file__).parent
ASKED_AFTER = 40


def copy_place(origin: Place, number: int) -> Place:
    """Copy a stopped installation, on ports of its own."""
    folder = origin.settings.project.with_name(f"{origin.settings.project.name}-{number}")
    shutil.copytree(origin.settings.project, folder, ignore=shutil.ignore_patterns("stack", "logs"))
    rest, control = free_ports(2)
    fresh = {"project": folder, "home": folder / ".lastgood", "port_rest": rest, "port_grpc": 0, "port_control": control}
    return Place(origin.settings.model_copy(update=fresh), origin.digests)


async def dies(place: Place) -> bool:
    """Say whether a gateway that broke off is dead; its connections end a moment before it does."""
    end = time.monotonic() + 10
    while place.pid() is not None and time.monotonic() < end:
        await asyncio.sleep(0.01)
    return place.pid() is None


async def deploy_and_roll_back(place: Place) -> None:
    """Roll version 2 out and back."""
    with place.control() as control:
        async with constant_load(place.settings.port_rest, connections=2, per_second=400):
            place.deploy(control, 2, step_requests=5, soak_requests=5)
            await until(control, "stable", seconds=20)
        await asyncio.to_thread(control.rollback, MODEL, to=None, keep=False, actor="benchmark", why="back")


async def crash_at(origin: Place, point: int) -> dict[str, Any]:
    """Kill the gateway at one point, start it again, and look; give what was found."""
    place = copy_place(origin, point)
    confirmed = False
    try:
        crashed = False
        try:
            place.start((sys.executable, str(HERE / "crashing_gateway.py"), str(point)))
            await deploy_and_roll_back(place)
            confirmed = True
            with place.control() as control:
                await recorded(control)  # what is written after the answer is a point, too
        except (LastgoodError, OSError, asyncio.IncompleteReadError, ValueError, ExceptionGroup):
            crashed = await dies(place)  # somewhere: that is the point
        place.stop()
        journal = (place.settings.home / "gateway" / "withdrawals.jsonl").read_text("utf-8")
        promised = '"withdraw"' in journal and journal.rstrip().endswith("}")
        place.start()
        return {"point": point, "crashed": crashed, "problems": await look(place, taken_out=confirmed or promised)}
    finally:
        place.stop()
        shutil.rmtree(place.settings.project, ignore_errors=True)


async def look(place: Place, *, taken_out: bool) -> list[str]:
    """Say what is wrong with an installation that came back."""
    problems = []
    with place.control() as control:
        await recorded(control)
        with Registry.open(place.settings, writer="check") as registry:
            taken_out = taken_out or place.digests[2] in registry.tombstones()
        served = {await ask(place) for _ in range(ASKED_AFTER)}
        if not served <= {1, 2}:
            problems.append(f"answers came from {served}")
        if taken_out and 2 in served:
            problems.append("version 2 serves though it was taken out")
        state = control.state(MODEL)
        rollout = state["rollout"]
        if rollout is not None and rollout["state"] not in set(State):
            problems.append(f"the rollout is {rollout['state']}")
        if rollout is not None and rollout["state"] in {"staged", "canary", "soaking"}:
            # Not stuck: with requests it goes on by itself.
            async with constant_load(place.settings.port_rest, connections=2, per_second=400):
                await until(control, "stable", seconds=20)
    with Registry.open(place.settings, writer="check") as registry:
        problems += [str(problem) for problem in registry.verify().problems]
    return problems


async def recorded(control: Control) -> None:
    """Wait until the shared record holds every decision."""
    end = time.monotonic() + 20
    while control.ping()["unrecorded"] and time.monotonic() < end:
        await asyncio.sleep(0.05)


async def ask(place: Place) -> int:
    """Give which version answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.settings.port_rest)
    status, _, body = await exchange(reader, writer, {"inputs": [tensor(3.0)]})
    writer.close()
    return round(json.loads(body)["outputs"][0]["data"][0] / 3.0) if status == 200 else -status


async def prepare(place: Place) -> None:
    """Bring version 1 to stable, and stop."""
    with place.control() as control:
        place.deploy(control, 1)
        await until(control, "soaking")
        async with constant_load(place.settings.port_rest, connections=2, per_second=400):
            await until(control, "stable")
    place.stop()


async def walk(every: int) -> list[dict[str, Any]]:
    """Crash at every point, or every so many, until a run meets none."""
    results: list[dict[str, Any]] = []
    with open_place(2) as origin:
        await prepare(origin)
        point = 1
        while not results or results[-1]["crashed"]:
            results.append(await crash_at(origin, point))
            print(f"point {point}: {results[-1]['problems'] or 'as it must be'}", file=sys.stderr)
            point += every
    return results


def main() -> int:
    """Run, print, and say by the exit code whether every crash was survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only every so many points")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = asyncio.run(walk(arguments.every))
    crashes = [result for result in results if result["crashed"]]
    problems = [f"point {result['point']}: {problem}" for result in results for problem in result["problems"]]
    if arguments.json:
        print(json.dumps({"crashes": len(crashes), "problems": problems}))
    else:
        print_figures(
            "kill -9 at the writes of deploy and rollback", [("crashes", "-", str(len(crashes))), ("problems", "0", str(len(problems)))]
        )
        for problem in problems:
            print(f"  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
