"""
More clients than can be answered, all of which ask again at once: what is still answered, and how soon.

    python benchmarks/overload.py [--seconds 8] [--rounds 3] [--json]

Three limits in turn: the gateway's own (a small model), the replica's (a model of some milliseconds), and a model of which a full batch
takes about as long as an answer may. Each is first asked by as many clients as bring it to its peak, then by three times as many as find
room in it: in the queue and in flight. wrk's connections ask again as soon as they have an answer, whatever it is. Latencies are of
probes: some connections more that do the same and keep the time of each answer with status 200.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from place import MODEL, Built, Place, open_place, print_figures, until

from lastgood.serving.client import Predictor
from lastgood.tensors import TensorSpec

sys.path.insert(0, str(Path(__file__).parent / "serving"))
from formats import PROTOCOL, Body
from load import Run, run_wrk, write_script

DEADLINE_SECONDS = 0.5
PROBES = 8
WIDTH = 30


@dataclass(frozen=True)
class Case:
    """A model, and how many clients bring it to its peak or are three times too many."""

    name: str
    layers: int  # of 1,024 wide
    queue_requests: int
    peak: int

    @property
    def crowd(self) -> int:
        """Three times as many clients as find room."""
        return 3 * (self.queue_requests + 2 * 64)


CASES = (Case("gateway", 0, 256, 64), Case("replica", 12, 256, 128), Case("batch", 64, 256, 32))


@dataclass
class Probes:
    """What the probes saw."""

    good: list[float] = field(default_factory=list)  # seconds
    refused: int = 0
    late: int = 0  # 504
    other: int = 0


def build(layers: int) -> Built:
    """Give a model of that many layers: "batch 30" to "batch 2" float32, drawn weights."""
    random = np.random.default_rng(0)
    nodes, constants, last, size = [], [], "x", WIDTH
    for index, wanted in enumerate([*[1024] * layers, 2]):
        weights = (random.normal(size=(size, wanted)) * np.sqrt(2 / size)).astype(np.float32)
        constants.append(helper.make_tensor(f"w{index}", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True))
        nodes.append(helper.make_node("MatMul", [last, f"w{index}"], [f"m{index}"]))
        nodes.append(helper.make_node("Tanh", [f"m{index}"], [f"t{index}"]))
        last, size = f"t{index}", wanted
    nodes[-1].output[0] = "y"
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])] for name, width in (("x", WIDTH), ("y", 2)))
    graph = helper.make_graph(nodes, "layers", inputs, outputs, constants)
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return Built({"model.onnx": data}, (TensorSpec("x", "FP32", (-1, WIDTH)),), (TensorSpec("y", "FP32", (-1, 2)),))


def write_bodies() -> list[Body]:
    """Give some requests."""
    rows = np.random.default_rng(1).normal(size=(16, WIDTH)).round(4)
    return [PROTOCOL.write(row[None]) for row in rows]


async def probe(port: int, body: Body, seconds: float, seen: Probes) -> None:
    """Ask on one connection, again and again, for that long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: probe\r\ncontent-length: {len(body.data)}\r\n\r\n".encode()
    end = time.monotonic() + seconds
    while (sent := time.monotonic()) < end:
        writer.write(head + body.data)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        status = int(answer[9:12])
        if status == 200:
            seen.good.append(time.monotonic() - sent)
        seen.refused += status == 503
        seen.late += status == 504
        seen.other += status not in {200, 503, 504}
    writer.close()


def load(place: Place, bodies: Sequence[Body], connections: int, seconds: float) -> tuple[Run, Probes]:
    """Ask from so many connections, and from the probes; give what wrk and they saw."""
    seen = Probes()

    async def ask() -> Run:
        asking = [probe(port, bodies[index % len(bodies)], seconds, seen) for index in range(PROBES)]
        run, *_ = await asyncio.gather(asyncio.to_thread(pour), *asking)
        return run

    def pour() -> Run:
        url = f"http://127.0.0.1:{port}"
        return run_wrk(url, script, connections=connections, seconds=seconds, find_family=list)

    port = place.settings.port_rest
    with write_script(f"/v2/models/{MODEL}/infer", bodies) as script:
        return asyncio.run(ask()), seen


def count_good(run: Run, seconds: float) -> float:
    """Give the good answers of wrk's a second; it counts those of another status as failed."""
    return run.per_second - run.failed / seconds


def measure(case: Case, seconds: float, rounds: int) -> dict[str, Any]:
    """Bring a gateway to its peak and over it, in turns; give the figures."""
    serving = {"queue_requests": case.queue_requests, "deadline_seconds": DEADLINE_SECONDS}
    bodies = write_bodies()
    with open_place(1, build=lambda _: build(case.layers), serving=serving) as place, place.control() as control:
        place.deploy(control, 1, strategy="direct", soak_requests=1)
        asyncio.run(until(control, "soaking"))
        with Predictor(place.settings) as predictor:
            predictor.infer(MODEL, [json.loads(bodies[0].data)["inputs"][0]])
        asyncio.run(until(control, "stable"))
        load(place, bodies, case.peak, 2)
        pairs = []
        for _ in range(rounds):
            peak, calm = load(place, bodies, case.peak, seconds)
            crowd, seen = load(place, bodies, case.crowd, seconds)
            best, good = count_good(peak, seconds) + len(calm.good) / seconds, count_good(crowd, seconds) + len(seen.good) / seconds
            pairs.append({"peak": best, "goodput": good, "share": good / best, "asked": crowd.per_second, "probes": vars(seen)})
    latencies = [value for pair in pairs for value in pair["probes"].pop("good")]
    return {
        "case": case.name,
        "clients": case.crowd,
        "pairs": pairs,
        "share": statistics.median(pair["share"] for pair in pairs),
        "accepted": len(latencies),
        "p99_seconds": float(np.quantile(latencies, 0.99)) if latencies else None,
        "late": sum(pair["probes"]["late"] for pair in pairs),
        "other": sum(pair["probes"]["other"] for pair in pairs),
    }


def main() -> int:
    """Run, print, and say by the exit code whether enough was answered in time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", type=lambda text: text.split(","), default=[case.name for case in CASES])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed. Debian: apt-get install wrk")
    results = [measure(case, arguments.seconds, arguments.rounds) for case in CASES if case.name in arguments.cases]
    if arguments.json:
        print(json.dumps(results))
    for own in () if arguments.json else results:
        peak, good = (statistics.median(pair[name] for pair in own["pairs"]) for name in ("peak", "goodput"))
        rows = [
            ("answered a second, of the peak", ">= 80 %", f"{own['share']:.0%} ({good:,.0f} of {peak:,.0f})"),
            ("p99 of accepted requests, s", f"<= {DEADLINE_SECONDS:g}", f"{own['p99_seconds']:.3f} (of {own['accepted']} probes)"),
            ("accepted and then too late (504)", "-", str(own["late"])),
        ]
        print_figures(f"The {own['case']}'s limit, {own['clients']} clients that ask again at once", rows)
    good = all(
        own["share"] >= 0.8 and own["p99_seconds"] and own["p99_seconds"] <= DEADLINE_SECONDS and not own["other"] for own in results
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
