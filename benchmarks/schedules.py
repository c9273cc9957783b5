"""
Randomised schedules of releases, alerts, verdicts, lost records and crashes: at most one withdrawal for an incident, and no
tombstone serves, whatever comes in which order.

Most schedules walk at random through the world of `world/`, the product's pure functions with one gateway or two, in larger
worlds than the model checker can exhaust. Some go through the real conductor: a real SQLite registry, a real journal file and
real alerts, with crashes and lost databases at writes. Its replicas are a fake at the backend's port: they are ready at once and
answer nothing, for nothing is asked.

    python benchmarks/schedules.py [--schedules 10000] [--conductor 300] [--seed 1] [--json]
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from conducted import Conducted
from conductors import make_installation
from place import print_figures
from world import World, begin_world, find_problem, is_settled, moves

LONGEST = 120  # moves of one schedule
CRASHES_SELDOM = 0.15  # of the moments at which it could crash, it does


def walk(number: int, chance: random.Random) -> tuple[World, list[str], str | None]:
    """Walk one schedule; give where it ended, how, and what went wrong."""
    gateways = 1 + number % 2
    world = begin_world(
        stable=chance.random() < 0.7,
        gateways=gateways,
        releases=chance.randint(1, 6),
        incidents=chance.randint(1, 6),
        cuts=chance.randint(0, 3) if gateways == 2 else 0,
    )
    names: list[str] = []
    for _ in range(LONGEST):
        choices = list(moves(world))
        seldom = [own for own in choices if "crash" not in own[0] or chance.random() < CRASHES_SELDOM]
        if not (seldom or choices):
            break
        name, world = chance.choice(seldom or choices)
        names.append(name)
        if (problem := find_problem(world)) is not None:
            return world, names, problem
    return world, names, None if _settles(world, chance) else "it does not come to rest"


def _settles(world: World, chance: random.Random) -> bool:
    """Say whether it comes to rest once nothing new happens: records are reached, what is decided is written."""
    for _ in range(2000):
        if is_settled(world):
            return True
        quiet = [
            own for own in moves(world) if not any(word in own[0] for word in ("crash", "cut off", "alert", "take", "release", "lift"))
        ]
        going = [own for own in quiet if any(word in own[0] for word in ("written", "recorded", "reads", "reaches", "refused"))]
        if not (going or quiet):
            return False
        _, world = chance.choice(going or quiet)
        if find_problem(world) is not None:
            return False
    return is_settled(world)


def run_worlds(count: int, seed: int) -> dict[str, Any]:
    """Walk so many schedules; give what was counted."""
    found: dict[str, Any] = {"schedules": count, "moves": 0, "withdrawals": 0, "crashes": 0, "alerts": 0, "problems": []}
    for number in range(count):
        world, names, problem = walk(number, random.Random(f"{seed}/{number}"))
        found["moves"] += len(names)
        found["withdrawals"] += sum("take " in name for name in names)
        found["crashes"] += sum("crash" in name for name in names)
        found["alerts"] += len(world.alerts)
        if problem is not None:
            found["problems"].append(f"schedule {number}: {problem}: {' → '.join(names)}")
        if (number + 1) % 1000 == 0:
            print(f"{number + 1} of {count} schedules, {len(found['problems'])} problems", file=sys.stderr)
    return found


def run_conductors(count: int, seed: int) -> dict[str, Any]:
    """Drive the real conductor through so many schedules; give what was counted."""
    found: dict[str, Any] = {"schedules": count, "steps": 0, "crashes": 0, "lost": 0, "withdrawals": 0, "problems": []}
    with tempfile.TemporaryDirectory(prefix="lastgood-schedules-") as folder:
        origin = make_installation(Path(folder) / "origin")
        for number in range(count):
            driven = Conducted(origin, Path(folder) / str(number), random.Random(f"{seed}/conductor/{number}"))
            asyncio.run(driven.run())
            for name in ("steps", "crashes", "lost", "withdrawals"):
                found[name] += getattr(driven, name)
            found["problems"] += [f"conductor {number}: {problem}" for problem in driven.problems]
            driven.remove()
            if (number + 1) % 50 == 0:
                print(f"{number + 1} of {count} with the conductor, {len(found['problems'])} problems", file=sys.stderr)
    return found


def main() -> int:
    """Run, print, and say by the exit code whether nothing went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--conductor", type=int, default=300, help="schedules through the real conductor, beside")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    began = time.monotonic()
    worlds, conductors = run_worlds(arguments.schedules, arguments.seed), run_conductors(arguments.conductor, arguments.seed)
    seconds = time.monotonic() - began
    problems = worlds["problems"] + conductors["problems"]
    if arguments.json:
        print(json.dumps({"worlds": worlds, "conductors": conductors, "seconds": seconds, "problems": problems}))
    else:
        rows = [(f"schedules, of them {arguments.conductor} by the conductor", "10,000", f"{arguments.schedules + arguments.conductor:,}")]
        rows += [("moves, and steps of the conductor", "-", f"{worlds['moves']:,}, {conductors['steps']:,}")]
        rows += [(f"{name}, of both", "-", f"{worlds[name]:,}, {conductors[name]:,}") for name in ("withdrawals", "crashes")]
        rows += [("alerts; databases lost", "-", f"{worlds['alerts']:,}; {conductors['lost']:,}")]
        rows += [("tombstones served, second withdrawals, stuck", "0", str(len(problems)))]
        print_figures(f"Randomised schedules, seed {arguments.seed}, {seconds:.0f} s", rows)
        for problem in problems[:10]:
            print(f"  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
