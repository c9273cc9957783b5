"""
What observing costs: the gateway's throughput with the prediction log, labels and drift on 50 features, beside none of them.
And what it finds: a shift of half a sigma in one feature, by requests until the gateway knows of it.

    python benchmarks/observed.py [--pairs 6] [--seconds 6] [--drills 20] [--json]

A real gateway with one replica, a network of 50 inputs, 64 connections of `wrk` (Debian: apt-get install wrk) that send the
same 200 rows round and round. Runs alternate, and ratios are within a pair, for this machine is shared.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from place import MODEL, Built, open_place, print_figures

from lastgood.monitoring.drift.profile import make_profile
from lastgood.serving.client import Control, Predictor
from lastgood.tensors import TensorSpec

FEATURES, HIDDEN, CLASSES = 50, 64, 3
ASKED, ASKED_REQUESTS = 0.95, 300
QUIET, MOST, MOVED, SHIFT = 1_000, 5_000, 7, 0.5
OFF: dict[str, Any] = {"log": False, "drift": False, "sample": 0.0}
ON: dict[str, Any] = {"drift.rhythm": "none"}


def build(number: int) -> Built:
    """Give a network with a reference of its inputs and outputs."""
    random = np.random.default_rng(number)
    weights = random.normal(size=(FEATURES, HIDDEN)).astype(np.float32) / 7
    head = random.normal(size=(HIDDEN, CLASSES)).astype(np.float32) / 8
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "b"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=1),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.tobytes(), raw=True) for name, array in (("a", weights), ("b", head))
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = random.normal(size=(5_000, FEATURES)).astype(np.float32)
    scores = np.maximum(x @ weights, 0) @ head
    answers = np.exp(scores - scores.max(axis=1, keepdims=True))
    profile = make_profile({"x": x}, {"y": answers / answers.sum(axis=1, keepdims=True)})
    files = {"model.onnx": bytes(model.SerializeToString()), "drift.bin": profile.to_bytes()}
    return Built(files, (TensorSpec("x", "FP32", (-1, FEATURES)),), (TensorSpec("y", "FP32", (-1, CLASSES)),), "drift.bin")


def write_script(folder: Path) -> Path:
    """Write the requests for wrk: 200 rows."""
    rows = np.random.default_rng(0).normal(size=(200, FEATURES)).round(4).tolist()
    bodies = [json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, FEATURES], "data": row}]}) for row in rows]
    lines = ["local bodies = {", *(f"  [[{body}]]," for body in bodies), "}", "local at = 0", "request = function()"]
    lines += ["  at = at % #bodies + 1", f'  return wrk.format("POST", "/v2/models/{MODEL}/infer", nil, bodies[at])', "end"]
    path = folder / "rows.lua"
    path.write_text("\n".join(lines), "utf-8")
    return path


def measure(script: Path, predictions: dict[str, Any], seconds: float) -> dict[str, float]:
    """Give requests a second through a fresh gateway, and how many rows it observed and dropped."""
    with (
        open_place(1, build=build, predictions=predictions) as place,
        place.control() as control,
        Predictor(place.settings) as predictor,
    ):
        place.deploy(control, 1, strategy="direct", soak_requests=1)
        _wait_until_stable(control, predictor)
        _load(place.settings.rest_url, script, 1)
        rate, errors = _load(place.settings.rest_url, script, seconds)
        kept = control.quality(MODEL)["log"]
    return {"per_second": rate, "errors": errors, "rows": kept["rows"], "dropped": kept["dropped"]}


def find_shift(seed: int) -> dict[str, float]:
    """Ask one at a time, then shift one feature by half a sigma; give the requests from there until the gateway says it drifts."""
    random = np.random.default_rng(seed)
    with (
        open_place(1, build=build, predictions=ON) as place,
        place.control() as control,
        Predictor(place.settings) as predictor,
    ):
        place.deploy(control, 1, strategy="direct", soak_requests=1)
        _wait_until_stable(control, predictor)
        shift = np.zeros(FEATURES)
        for number in range(QUIET + MOST):
            if number == QUIET:
                if _is_raised(control):
                    return {"false": 1.0, "requests": 0.0}
                shift[MOVED] = SHIFT
            row = (random.normal(size=FEATURES) + shift).astype(np.float32).tolist()
            predictor.infer(MODEL, [{"name": "x", "datatype": "FP32", "shape": [1, FEATURES], "data": row}])
            if number >= QUIET and number % 5 == 0 and _is_raised(control):
                return {"false": 0.0, "requests": float(number + 1 - QUIET)}
    return {"false": 0.0, "requests": float(MOST)}


def _is_raised(control: Control) -> bool:
    return any(own["state"] == "raised" for own in control.quality(MODEL)["drift"]["versions"])


def _wait_until_stable(control: Control, predictor: Predictor) -> None:
    row = [{"name": "x", "datatype": "FP32", "shape": [1, FEATURES], "data": [0.0] * FEATURES}]
    for state in control.watch(MODEL, seconds=30):
        if state["rollout"]["state"] == "stable":
            return
        if state["rollout"]["state"] == "soaking":
            predictor.infer(MODEL, row)
    raise SystemExit("the version did not become stable")


def _load(url: str, script: Path, seconds: float) -> tuple[float, float]:
    command = ["wrk", "-t1", "-c64", f"-d{seconds:g}s", "-s", str(script), url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rate = next(float(line.split()[1]) for line in text.splitlines() if line.startswith("Requests/sec"))
    bad = next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if "Non-2xx" in line), 0.0)
    return rate, bad


def main() -> int:
    """Measure, print, and say by the exit code whether it is as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--drills", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed. Debian: apt-get install wrk")
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    with tempfile.TemporaryDirectory(prefix="lastgood-observed-") as name:
        script = write_script(Path(name))
        for index in range(arguments.pairs):
            order = (OFF, ON) if index % 2 == 0 else (ON, OFF)
            found = {own is ON: measure(script, own, arguments.seconds) for own in order}
            pairs.append((found[False], found[True]))
            print(f"{found[False]['per_second']:,.0f} without, {found[True]} with", file=sys.stderr, flush=True)
    drills = [find_shift(seed) for seed in range(arguments.drills)]
    found = [own["requests"] for own in drills if not own["false"]]
    requests = statistics.median(found) if found else 0.0
    ratios = [on["per_second"] / off["per_second"] for off, on in pairs]
    ratio = statistics.median(ratios)
    if arguments.json:
        print(json.dumps({"ratio": ratio, "ratios": ratios, "pairs": pairs, "drills": drills, "requests": requests}))
    else:
        rows = [
            ("throughput, observed over not", f"{ASKED:.0%}", f"{ratio:.1%} ({min(ratios):.1%} to {max(ratios):.1%})"),
            ("requests a second without", "-", f"{statistics.median(off['per_second'] for off, _ in pairs):,.0f}"),
            ("half a sigma found after requests, median", f"{ASKED_REQUESTS}", f"{requests:g} (most {max(found, default=0):g})"),
            ("alarms before the shift", "-", f"{sum(own['false'] for own in drills):g} of {len(drills)}"),
            ("failed", "0", f"{sum(run['errors'] for pair in pairs for run in pair):g}"),
        ]
        print_figures(f"Observing 50 features, 64 connections, {arguments.pairs} pairs of {arguments.seconds:g} s", rows)
    return 0 if ratio >= ASKED and requests <= ASKED_REQUESTS else 1


if __name__ == "__main__":
    sys.exit(main())
