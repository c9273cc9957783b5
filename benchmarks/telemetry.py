"""
What telemetry costs: processor time of the gateway's process for each request, with all of it on, beside none.

    python benchmarks/telemetry.py [--rounds 16] [--seconds 1] [--json]

Real gateways with one replica each, `y = x`, and 64 connections of `wrk` (Debian: apt-get install wrk). On: every request has a
traceparent of its own, one in a hundred of them sampled; the access log keeps a hundredth; spans go to a collector of this program.
Off: the same requests, which are answered with a traceparent all the same; or plain ones without the header, so that the difference is
the whole of what tracing costs. All gateways are up, and short loads go round: this machine is shared, and what its others do changes
within seconds. Ratios are within a round.
"""

import argparse
import json
import shutil
import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from place import MODEL, Place, open_place, print_figures, tensor

sys.path.insert(0, str(Path(__file__).parent / "serving"))
from formats import Body
from load import Run, run_wrk, write_script

from lastgood.serving.client import Predictor
from lastgood.settings import PROJECT_FILE

ASKED = 1.05
CONNECTIONS = 64
TRACES = 5_000  # different ones, one after another: many more than heads are kept
SAMPLED = 0.01
KINDS = ("off, plain requests", "off", "on")


class Collector:
    """Takes spans and counts them."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.spans = 0
        own = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
                own.spans += sum(len(scope.spans) for resource in message.resource_spans for scope in resource.scope_spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def open_collector() -> Iterator[Collector]:
    """Run a collector."""
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        thread.join()
        collector.server.server_close()


def make_bodies(*, traced: bool) -> list[Body]:
    """Give the requests that are sent round and round."""
    random = Random(0)
    data = json.dumps({"inputs": [tensor(3.0)]}).encode()
    headers = {"content-type": "application/json"}
    found = []
    for _ in range(TRACES):
        ids, sampled = f"{random.getrandbits(128):032x}-{random.getrandbits(64):016x}", random.random() < SAMPLED
        # Plain ones are as many and as long, and wrk's own work is the same.
        extra = {"traceparent": f"00-{ids}-{sampled:02x}"} if traced else {"x-the-same": "x" * 56}
        found.append(Body({**headers, **extra}, data))
    return found


@dataclass(frozen=True)
class Loaded:
    """A gateway that serves, and what is sent to it."""

    place: Place
    process: psutil.Process
    script: Path

    def load(self, seconds: float) -> Run:
        """Load it and give what was seen."""
        url = self.place.settings.rest_url
        return run_wrk(url, self.script, connections=CONNECTIONS, seconds=seconds, find_family=lambda: [self.process])

    def read_lost(self) -> float:
        """Give how many requests its telemetry lost."""
        text = httpx.get(f"{self.place.settings.control_url}/metrics", timeout=10).text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("lastgood_telemetry_dropped_total"))


@contextmanager
def open_gateway(kind: str, collector: Collector) -> Iterator[Loaded]:
    """Run a gateway whose version is stable, and warm."""
    telemetry = {"access_log": 0.01, "otlp_endpoint": collector.url, "sample": SAMPLED} if kind == "on" else {}
    bodies = make_bodies(traced=kind != KINDS[0])
    with open_place(1, start=False) as place, write_script(f"/v2/models/{MODEL}/infer", bodies) as script:
        path = place.settings.project / PROJECT_FILE
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in telemetry.items())
        path.write_text(f"{path.read_text('utf-8')}[telemetry]\n{lines}", "utf-8")
        place.start()
        with place.control() as control, Predictor(place.settings) as predictor:
            place.deploy(control, 1, strategy="direct", soak_requests=1)
            _wait_until_stable(control, predictor)
        found = Loaded(place, psutil.Process(place.pid()), script)
        found.load(1)
        yield found


def _wait_until_stable(control: Any, predictor: Any) -> None:
    for state in control.watch(MODEL, seconds=30):
        if state["rollout"]["state"] == "stable":
            return
        if state["rollout"]["state"] == "soaking":
            predictor.infer(MODEL, [tensor(1.0)])
    raise SystemExit("the version did not become stable")


def main() -> int:
    """Measure, print, and say by the exit code whether it is as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed. Debian: apt-get install wrk")
    rounds: list[dict[str, Run]] = []
    with open_collector() as collector, ExitStack() as stack:
        gateways = {kind: stack.enter_context(open_gateway(kind, collector)) for kind in KINDS}
        for index in range(arguments.rounds):
            order = KINDS[index % 3 :] + KINDS[: index % 3]
            rounds.append({kind: gateways[kind].load(arguments.seconds) for kind in (order if index % 2 else reversed(order))})
            print(", ".join(f"{kind}: {rounds[-1][kind].cpu_seconds * 1e6:.1f} us" for kind in KINDS), file=sys.stderr, flush=True)
        on = gateways["on"]
        lost = on.read_lost()
        on.place.stop()
        lines = (on.place.settings.home / "logs" / "access.jsonl").read_bytes().count(b"\n")
        told = {"lines": lines, "spans": collector.spans, "lost": lost}
    ratios = {kind: [own["on"].cpu_seconds / own[kind].cpu_seconds for own in rounds] for kind in KINDS[:2]}
    ratio = statistics.median(ratios["off"])
    failed = sum(run.failed for own in rounds for run in own.values())
    if arguments.json:
        runs = [{kind: run.to_json() for kind, run in own.items()} for own in rounds]
        print(json.dumps({"ratio": ratio, "ratios": ratios, "rounds": runs, "told": told}))
    else:
        rows = [
            (f"CPU per request, {kind}", "-", f"{statistics.median(own[kind].cpu_seconds for own in rounds) * 1e6:.1f} us")
            for kind in KINDS
        ]
        rows += [
            (f"CPU per request, on over {kind}", f"{ASKED:g}" if kind == "off" else "-", _write_ratios(own)) for kind, own in ratios.items()
        ]
        rows += [
            ("requests a second, off", "-", f"{statistics.median(own['off'].per_second for own in rounds):,.0f}"),
            ("lines, spans, lost", "-", " / ".join(f"{told[name]:,.0f}" for name in ("lines", "spans", "lost"))),
            ("failed", "0", f"{failed:g}"),
        ]
        print_figures(f"Telemetry, {CONNECTIONS} connections, {arguments.rounds} rounds of {arguments.seconds:g} s", rows)
    return 0 if ratio <= ASKED and not failed else 1


def _write_ratios(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    sys.exit(main())
