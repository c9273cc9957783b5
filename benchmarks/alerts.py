"""
The alert path, with real Prometheus and Alertmanager at 1 s: from the first bad answer of a stable version until the
last good one serves again. Then the same alert five times, late, and after a new release: nothing may change.

Two ways of going bad: every request fails and the alert takes the version out (rollback), or one in twenty fails, the alert
asks for a comparison, and the judge takes it out (compare).

    python benchmarks/alerts.py [--scenario rollback|compare] [--repeat 10] [--history-seconds S] [--json]
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from place import MODEL, Place, constant_load, open_place, print_figures, until

from lastgood.serving.client import Control
from lastgood.stack.services import build_services

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Scenario:
    """One way of going bad."""

    action: str  # what the alert asks for
    alert: str
    failing: str  # part of the requests; empty for all
    seconds: float  # asked for, from the first bad answer to the restored route
    cause: str  # of the withdrawal
    history: float  # seconds for which it was good, so that the rule's window is full of that
    policy: dict[str, Any] = field(default_factory=dict)


SCENARIOS = {
    "rollback": Scenario("rollback", "LastgoodFailing", "", 4, "alert", 4),
    # The requests of the default policy: what is decided on twenty is decided by chance.
    "compare": Scenario("compare", "LastgoodErrorRatio", "0.05", 60, "judge", 60, {"step_requests": 200, "soak_requests": 500}),
}


@contextmanager
def watched(place: Place) -> Iterator[None]:
    """Run Prometheus and Alertmanager beside the gateway."""
    services, missing = build_services(place.settings)
    if missing and missing[-1].name == "prometheus":
        raise SystemExit(missing[-1].sentence)
    names = []
    try:
        for service in services:
            if service.name in {"prometheus", "alertmanager"}:
                place.stack.start(service)
                names.append(service.name)
        yield
    finally:
        for name in reversed(names):
            place.stack.stop(name)


async def await_scrape(place: Place) -> None:
    """Wait until Prometheus has scraped the gateway: it says it is ready before it has."""
    url = f"http://127.0.0.1:{place.settings.port_prometheus}/api/v1/query"
    async with httpx.AsyncClient() as http, asyncio.timeout(30):
        while True:
            found = (await http.get(url, params={"query": 'up{job="lastgood"} == 1'})).json()["data"]["result"]
            if found:
                return
            await asyncio.sleep(0.1)


async def once(folder: Path, scenario: Scenario, history: float) -> dict[str, Any]:
    """Let a stable version go bad; give the seconds to the restored route, and what repeated alerts did."""
    flag = folder / "bad"
    with open_place(3, start=False) as place, place.control() as control:
        place.start((sys.executable, str(HERE / "toggled_gateway.py"), place.digests[2], str(flag)))
        place.deploy(control, 1)
        async with constant_load_after(place, control) as load:
            with watched(place):
                await until(control, "stable")
                place.deploy(control, 2, **scenario.policy)
                await until(control, "stable")
                await await_scrape(place)
                await asyncio.sleep(history)  # a stable version with a history in Prometheus, not a fresh one
                began_at = datetime.now(UTC)
                before = load.failed
                flag.write_text(scenario.failing, "utf-8")
                while load.failed == before:
                    await asyncio.sleep(0.005)
                began = time.monotonic()
                state = await until(control, "withdrawn", seconds=150)
                seconds = time.monotonic() - began
                bad = load.failed - before
                await asyncio.sleep(0.5)
                failed_after = load.failed
                repeated = await repeat_alert(place, control, scenario, began_at)
        return {
            "seconds": seconds,
            "bad_answers": bad,
            "failed_after_restore": load.failed - failed_after,
            "wrong": load.wrong + load.misattributed + load.hung,
            "restored": state["live"]["number"],
            "cause": state["rollout"]["cause"],
            "changed_by_repeats": repeated,
        }


def constant_load_after(place: Place, control: Control) -> Any:
    """Give load of 100 requests per second, once the model is routed."""
    for state in control.watch(MODEL, seconds=30):
        if state["rollout"]["state"] != "staged":
            break
    return constant_load(place.settings.port_rest, connections=4, per_second=100)


async def repeat_alert(place: Place, control: Control, scenario: Scenario, began: datetime) -> int:
    """Send the same alert five times, then once more after a new release; count what changed."""
    before = control.state(MODEL)
    for _ in range(5):
        await send_alert(place, scenario, 2, began)
    changed = int(_serving(control) != _serving_of(before))
    place.deploy(control, 3)
    after = await until(control, "stable")
    await send_alert(place, scenario, 2, began)  # late: version 2 is gone
    await send_alert(place, scenario, 3, began)  # began before version 3 came in
    return changed + int(_serving(control) != _serving_of(after))


async def send_alert(place: Place, scenario: Scenario, version: int, began: datetime) -> None:
    """Send an alert as Alertmanager does."""
    labels = {"alertname": scenario.alert, "model": MODEL, "version": str(version), "action": scenario.action}
    alert = {"status": "firing", "labels": labels, "annotations": {"summary": "again"}, "startsAt": began.isoformat()}
    async with httpx.AsyncClient() as http:
        response = await http.post(f"{place.settings.control_url}/alerts", json={"version": "4", "status": "firing", "alerts": [alert]})
        response.raise_for_status()


def _serving(control: Control) -> Any:
    return _serving_of(control.state(MODEL))


def _serving_of(state: dict[str, Any]) -> Any:
    return state["generation"], state["live"], [(lane["number"], lane["share"]) for lane in state["lanes"]]


def main() -> int:
    """Run, print, and say by the exit code whether all was as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=SCENARIOS, default="rollback")
    parser.add_argument("--history-seconds", type=float, help="how long the version is good in Prometheus' eyes, before it goes bad")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    scenario = SCENARIOS[arguments.scenario]
    history = scenario.history if arguments.history_seconds is None else arguments.history_seconds
    results = []
    for index in range(arguments.repeat):
        with tempfile.TemporaryDirectory(prefix="lastgood-alerts-") as folder:
            results.append(asyncio.run(once(Path(folder), scenario, history)))
        print(f"{index + 1} of {arguments.repeat}: {results[-1]['seconds']:.2f} s", file=sys.stderr)
    median = statistics.median(result["seconds"] for result in results)
    other = sum(result["cause"] != scenario.cause or result["restored"] != 1 for result in results)
    sums = {name: sum(result[name] for result in results) for name in ("failed_after_restore", "wrong", "changed_by_repeats")}
    if arguments.json:
        print(json.dumps({"median_seconds": median, **sums, "otherwise_restored": other, "runs": results}))
    else:
        worst = max(result["seconds"] for result in results)
        rows = [("seconds from bad answer to restored, median", f"<= {scenario.seconds:g}", f"{median:.2f} (worst {worst:.2f})")]
        rows += [(name.replace("_", " "), "0", str(value)) for name, value in sums.items()]
        rows.append((f"not taken back to version 1 by the {scenario.cause}", "0", str(other)))
        print_figures(f"The alert path ({arguments.scenario}), {arguments.repeat} times", rows)
    return 0 if median <= scenario.seconds and not other and not any(sums.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
