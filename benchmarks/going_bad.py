"""
A version that goes bad under a real gateway, one request at a time: dead in the soak at 90 %, or 2 % of errors beside 0.1 %, at 10 %.

    python benchmarks/going_bad.py [--repeat 40] [--case soak|errors|both] [--json]

In the soak it answers 500 requests well and then none. In the other case the live version fails one request in a thousand and the
candidate one in fifty, those as well. Counted are requests to both roles until the route is restored.
"""

import argparse
import itertools
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from place import MODEL, NEVER, open_place, print_figures, tensor, write_quantiles

from lastgood.drill.score import find_quantiles
from lastgood.serving.client import Control, Predictor

ASKED = {"soak": 60, "errors": 7_000}
MOST = {"soak": 1_000, "errors": 30_000}
GATEWAY = Path(__file__).with_name("toggled_gateway.py")


class Caller:
    """Asks with numbers that are never the same; which ones fail is decided by the number."""

    def __init__(self, predictor: Predictor, seed: int) -> None:
        """Begin at another number for each seed."""
        self._predictor = predictor
        self._numbers = itertools.count(1 + 100_000 * seed)

    def ask(self) -> bool:
        """Ask once; say whether there was an answer."""
        return self._predictor.send(MODEL, [tensor(float(next(self._numbers)))]).is_success


def play(case: str, seed: int) -> dict[str, Any]:
    """Let one version go bad; give requests and bad answers until it was out."""
    with open_place(2, start=False) as place:
        common, flag = place.settings.home / "common", place.settings.home / "bad"
        place.start((sys.executable, str(GATEWAY), place.digests[1], str(common), place.digests[2], str(flag)))
        with place.control() as control, Predictor(place.settings) as predictor:
            caller = Caller(predictor, seed)
            place.deploy(control, 1, strategy="direct")
            _ask_until(control, caller, "stable")
            if case == "soak":
                place.deploy(control, 2, strategy="direct", soak_share=0.9, steps=[0.5], soak_requests=NEVER)
                _ask_until(control, caller, "soaking")
                for _ in range(500):
                    caller.ask()
                flag.write_text("", "utf-8")
                return _count(control, caller, MOST[case])
            common.write_text("0.001", "utf-8")
            flag.write_text("0.02", "utf-8")
            place.deploy(control, 2, steps=[0.1], step_requests=NEVER)
            _ask_until(control, caller, "canary")
            return _count(control, caller, MOST[case])


def _ask_until(control: Control, caller: Caller, wanted: str) -> None:
    for state in control.watch(MODEL, seconds=30):
        if state["rollout"] is not None and state["rollout"]["state"] == wanted:
            return
        if state["lanes"]:
            for _ in range(30):
                caller.ask()
    raise SystemExit(f"the rollout did not become {wanted}")


def _count(control: Control, caller: Caller, most: int) -> dict[str, Any]:
    bad = 0
    for number in range(1, most + 1):
        failed = not caller.ask()
        bad += failed
        # Where most answers are good, what decides is a bad one; good ones are looked at now and then.
        if (failed or number % 10 == 0) and control.state(MODEL)["rollout"]["state"] == "withdrawn":
            return {"requests": number, "bad_answers": bad}
    return {"requests": most, "bad_answers": bad}


def main() -> int:
    """Run, print, and say by the exit code whether it is as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=40)
    parser.add_argument("--case", choices=("soak", "errors", "both"), default="both")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cases = [arguments.case] if arguments.case != "both" else list(ASKED)
    found: dict[str, dict[str, float]] = {}
    for case in cases:
        runs = [play(case, seed) for seed in range(arguments.repeat)]
        found[case] = find_quantiles([run["requests"] for run in runs])
        found[case]["bad_answers"] = statistics.median(run["bad_answers"] for run in runs)
        print(f"{case}: {found[case]}", file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps(found))
    else:
        rows = [(f"{case}: requests until it was out, p95", f"{ASKED[case]:,}", write_quantiles(own)) for case, own in found.items()]
        print_figures(f"A version that goes bad, {arguments.repeat} times each", rows)
    return 0 if all(own["p95"] <= ASKED[case] for case, own in found.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
