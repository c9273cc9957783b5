"""
What the judge promises and what it finds: false withdrawals over null releases, and requests until a bad version is out.

    python benchmarks/judge.py [--releases 20000] [--drills 200] [--processes 2] [--json]

Simulated through the product's judge, course and table (`releases.py`); nothing waits for a clock. 20,000 null releases of
100,000 requests take about four minutes for each scenario on two processes.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from place import print_figures
from releases import FOREVER, Array, Ended, Traffic, level, release, release_crowded, same

from lastgood.monitoring.judge.paired import PairCounts, Pairs
from lastgood.monitoring.judge.verdict import JudgePolicy, judge
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import State

REQUESTS = 100_000
PERIOD = 20_000  # requests in a simulated day
CHUNK = 100  # releases a process runs before it reports
SOAKING_ON = RolloutPolicy(soak_requests=FOREVER)  # never stable: judged for all of the requests
STAYS_AT_TEN = RolloutPolicy(steps=(0.1,), step_requests=FOREVER)
UPPER = 0.0015


def diurnal(numbers: Array) -> Array:
    """One per cent on average, from nearly none to twice as much and back within a day."""
    return np.asarray(0.01 * (1 + 0.95 * np.sin(2 * np.pi * numbers / PERIOD)))


def bursty(numbers: Array) -> Array:
    """One in a thousand, and half of everything for 200 requests out of every 10,000."""
    return np.where(numbers % 10_000 < 200, 0.5, 0.001)


def drifting(numbers: Array) -> Array:
    """From 0.1 to 5 % over the release."""
    return np.asarray(0.001 + 0.049 * np.minimum(numbers / REQUESTS, 1.0))


NULLS: dict[str, Traffic | None] = {
    "constant 1 %": same(level(0.01)),
    "constant 0.1 %": same(level(0.001)),
    "diurnal": same(diurnal),
    "bursty": same(bursty),
    "1.0 to 1.1 % at a tolerated ratio of 1.25": Traffic(level(0.011), level(0.01)),
    "both roles drifting": same(drifting),
    "a replica death per 100,000 requests, 64 in flight": None,
}


def run_null(name: str, seed: int) -> list[tuple[str, bool]]:
    """Run some null releases; give how each ended and whether it was suspected."""
    random = np.random.default_rng([seed, sum(name.encode())])
    traffic, found = NULLS[name], []
    for _ in range(CHUNK):
        if traffic is None:
            ended = release_crowded(SOAKING_ON, random, most=REQUESTS, failing=0.001, common=0.001, deaths=1e-5)
        else:
            ended = release(SOAKING_ON, traffic, REQUESTS, random)
        found.append((ended.state.value, ended.suspected))
    return found


def bound_false(false: int, releases: int, confidence: float = 0.95) -> float:
    """
    Give the one-sided upper bound of a probability.

    Source: Clopper, Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26, 1934.
    """
    from scipy.stats import beta

    return 1.0 if false == releases else float(beta.ppf(confidence, false + 1, releases - false))


def measure_nulls(releases: int, processes: int, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Run the null scenarios; give false withdrawals with their bound, and how many were suspected."""
    found = {}
    chunks = math.ceil(releases / CHUNK)
    with ProcessPoolExecutor(processes) as pool:
        for name in names:
            began = time.monotonic()
            ended = [own for chunk in pool.map(partial(run_null, name), range(chunks)) for own in chunk]
            false = sum(state == State.WITHDRAWN for state, _ in ended)
            found[name] = {
                "releases": len(ended),
                "withdrawn": false,
                "upper_95": bound_false(false, len(ended)),
                "suspected": sum(suspected for _, suspected in ended) / len(ended),
                "seconds": round(time.monotonic() - began, 1),
            }
            print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def measure_power(drills: int, seed: int = 7) -> dict[str, dict[str, Any]]:
    """Let versions be bad in known ways; give requests and bad answers until they were out."""
    random = np.random.default_rng(seed)
    dead, slight = Traffic(level(1.0), level(0.001)), Traffic(level(0.02), level(0.001))
    soak = SOAKING_ON
    runs: dict[str, Callable[[], Ended]] = {
        "dead at 10 %": lambda: release(STAYS_AT_TEN, dead, REQUESTS, random),
        "dead at 10 %, 64 in flight": lambda: release_crowded(STAYS_AT_TEN, random, most=REQUESTS, failing=1.0, common=0.0),
        "dead in soak at 90 %": lambda: release(soak, dead, REQUESTS, random, state=State.SOAKING),
        "dead in soak after 500 good answers": lambda: release(soak, dead, REQUESTS, random, state=State.SOAKING, fresh=False),
        "0.1 to 2 % at 10 %": lambda: release(STAYS_AT_TEN, slight, REQUESTS, random),
    }
    found = {}
    for name, run in runs.items():
        ended = [run() for _ in range(drills)]
        requests, bad = [own.requests for own in ended], [own.bad_answers for own in ended]
        found[name] = {
            "drills": drills,
            "missed": sum(own.state is not State.WITHDRAWN for own in ended),
            "requests_median": float(np.median(requests)),
            "requests_p95": float(np.quantile(requests, 0.95)),
            "bad_answers_median": float(np.median(bad)),
            "bad_answers_p95": float(np.quantile(bad, 0.95)),
        }
    return found


def measure_pairs(drills: int, seed: int = 7) -> dict[str, dict[str, Any]]:
    """Let a candidate in shadow lose accuracy; give labelled pairs until it is shown. One pair in a hundred is won."""
    random = np.random.default_rng(seed)
    found = {}
    for points, accepted in ((0.10, 0.005), (0.05, 0.005), (0.10, 0.01), (0.05, 0.01)):
        pairs = [_pairs_until_shown(random, points, accepted) for _ in range(drills)]
        found[f"{points:.0%} lost, {accepted:.1%} accepted"] = {
            "drills": drills,
            "pairs_median": float(np.median(pairs)),
            "pairs_p95": float(np.quantile(pairs, 0.95)),
        }
    return found


def _pairs_until_shown(random: np.random.Generator, points: float, accepted: float, won: float = 0.01, most: int = 20_000) -> int:
    counts, policy = [0, 0, 0], JudgePolicy(tolerated_loss=accepted)
    # A won or tied pair lowers the evidence: only after a lost one is there anything new to see.
    for number, outcome in enumerate(random.choice(3, size=most, p=[points + won, won, 1 - points - 2 * won]), start=1):
        counts[outcome] += 1
        if outcome == 0 and judge([], policy, has_baseline=True, pairs=Pairs(labels=PairCounts(*counts))).decision == "bad":
            return number
    return most


ASKED: dict[str, tuple[str, float]] = {
    "dead at 10 %": ("requests_p95", 80),
    "dead at 10 %, 64 in flight": ("bad_answers_median", 69),
    "dead in soak at 90 %": ("requests_p95", 60),
    "dead in soak after 500 good answers": ("requests_p95", 60),
    "0.1 to 2 % at 10 %": ("requests_p95", 7000),
    "10% lost, 0.5% accepted": ("pairs_p95", 400),
    "5% lost, 0.5% accepted": ("pairs_p95", 1100),
}


def find_misses(nulls: dict[str, dict[str, Any]], power: dict[str, dict[str, Any]], pairs: dict[str, dict[str, Any]]) -> list[str]:
    """Say what is worse than asked for."""
    missed = [f"{name}: {own['upper_95']:.5f}" for name, own in nulls.items() if own["upper_95"] > UPPER]
    for name, own in {**power, **pairs}.items():
        figure, most = ASKED.get(name, ("", math.inf))
        if (figure and own[figure] > most) or own.get("missed"):
            missed.append(f"{name}: {own}")
    if power["dead at 10 %"]["bad_answers_median"] > 5:
        missed.append(f"dead at 10 %: {power['dead at 10 %']}")
    return missed


def main() -> int:
    """Run, print, and say by the exit code whether everything is as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=int, default=20_000, help="null releases for each scenario; the bound needs 2,000 or more")
    parser.add_argument("--drills", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", action="append", choices=list(NULLS), help="a null scenario; all of them by default")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    power, pairs = measure_power(arguments.drills), measure_pairs(5 * arguments.drills)
    nulls = measure_nulls(arguments.releases, arguments.processes, arguments.only or NULLS)
    missed = find_misses(nulls, power, pairs)
    if arguments.json:
        print(json.dumps({"power": power, "pairs": pairs, "nulls": nulls, "missed": missed}))
        return 1 if missed else 0
    rows = []
    for name, own in power.items():
        figure, most = ASKED[name]
        asked = {"requests_p95": f"{most:g} p95", "bad_answers_median": "-"}[figure]
        rows.append((f"{name}: requests, median and p95", asked, f"{own['requests_median']:g} and {own['requests_p95']:g}"))
        most_bad = {"dead at 10 %": "5 median", "dead at 10 %, 64 in flight": "5 + 64"}.get(name, "-")
        rows.append((f"{name}: bad answers, the same", most_bad, f"{own['bad_answers_median']:g} and {own['bad_answers_p95']:g}"))
    for name, own in pairs.items():
        rows.append((f"{name}: labelled pairs", f"{ASKED.get(name, ('', '-'))[1]}", f"{own['pairs_median']:g} and {own['pairs_p95']:g}"))
    for name, own in nulls.items():
        figure = f"{own['withdrawn']} of {own['releases']:,}: {own['upper_95']:.5f}"
        rows.append((f"{name}: withdrawn, 95 % bound", f"{UPPER}", figure))
    print_figures(f"The judge at alpha 0.001, {arguments.drills} drills, null releases of {REQUESTS:,} requests", rows)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
