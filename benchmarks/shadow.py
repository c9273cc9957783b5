"""
Labels in shadow: a candidate that lost accuracy, and how many labelled pairs it takes until it is withdrawn.

    python benchmarks/shadow.py [--repeat 40] [--json]

A real gateway; the candidate gets a copy of each request. Labels come as feedback in batches, out of order and a little late. The
live version is wrong for one row in a hundred for which the candidate is right; the candidate is wrong for so many more that it
loses 10 or 5 points. Half a point is accepted. The figures are the receipt's: what was counted when the judge decided.
"""

import argparse
import json
import sys
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from place import MODEL, NEVER, Built, Place, open_place, print_figures, write_quantiles

from lastgood.drill.score import find_quantiles
from lastgood.registry.registry import Registry
from lastgood.serving.client import Predictor
from lastgood.tensors import TensorSpec

CLASSES, WON = 3, 0.01
ASKED = {0.10: 400, 0.05: 1_100}
BATCH = 10  # labels told at once
MOST = 6_000  # requests


def build_classifier(low: float, high: float) -> Built:
    """
    Give a version that names the place of the largest of three numbers, but wrongly where a fourth one is below ``low`` or above ``high``.

    A fourth number that callers draw from [0, 1) so decides by itself which rows which version gets wrong.
    """
    nodes = [
        helper.make_node("Slice", ["x", "zero", "three", "one"], ["scores"]),
        helper.make_node("Slice", ["x", "three", "four", "one"], ["u"]),
        helper.make_node("Less", ["u", "low"], ["below"]),
        helper.make_node("Greater", ["u", "high"], ["above"]),
        helper.make_node("Or", ["below", "above"], ["wrong"]),
        helper.make_node("Neg", ["scores"], ["turned"]),
        helper.make_node("Where", ["wrong", "turned", "scores"], ["y"]),
    ]
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in (("zero", 0), ("one", 1), ("three", 3), ("four", 4))
    ]
    constants += [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in (("low", low), ("high", high))]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    files = {"model.onnx": bytes(model.SerializeToString())}
    return Built(files, (TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, CLASSES)),))


def build_pair(points: float, number: int) -> Built:
    """Give the live version (1), wrong for one row in a hundred, or the candidate (2), which loses ``points`` against it."""
    return build_classifier(0.0, 1.0 - WON) if number == 1 else build_classifier(points + WON, 1.0)


class Caller:
    """Asks for rows whose class is known, and tells the labels in batches, in another order than the answers came."""

    def __init__(self, predictor: Predictor, seed: int) -> None:
        """Draw rows from this seed."""
        self.predictor = predictor
        self.random = np.random.default_rng(seed)
        self._labels: list[tuple[str, int]] = []

    def ask(self) -> None:
        """Ask once; tell the labels of ten requests when there are as many."""
        known = int(self.random.integers(CLASSES))
        scores = self.random.normal(size=CLASSES)
        scores[known] = np.abs(scores).max() + 1
        data = [*scores.round(3).tolist(), float(self.random.random())]
        answer = self.predictor.infer(MODEL, [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": data}])
        self._labels.append((answer["id"], known))
        if len(self._labels) == BATCH:
            self.random.shuffle(self._labels)
            self.predictor.feed_back(MODEL, dict(self._labels))
            self._labels.clear()


def play(points: float, seed: int) -> dict[str, Any]:
    """Shadow one candidate; give what the receipt says."""
    with (
        open_place(2, build=lambda number: build_pair(points, number)) as place,
        place.control() as control,
        Predictor(place.settings) as predictor,
    ):
        caller = Caller(predictor, seed)
        place.deploy(control, 1, strategy="direct")
        _ask_until(place, caller, {"stable"})
        place.deploy(control, 2, strategy="shadow", shadow_requests=NEVER)
        _ask_until(place, caller, {"withdrawn"})
        place.stop()  # what is decided is in the shared record then
        with Registry.open(place.settings, writer="cli") as registry:
            event = next(event for event in registry.events(model=MODEL, newest_first=True) if event.kind == "withdrawn")
    receipt = event.payload["receipt"]
    labels = receipt["pairs"]["labels"]
    return {"kind": receipt["verdict"]["kind"], "pairs": sum(labels.values()), **labels}


def _ask_until(place: Place, caller: Caller, wanted: set[str]) -> None:
    with place.control() as control:
        for _ in range(MOST):
            state = control.state(MODEL)["rollout"]
            if state is not None and state["state"] in wanted:
                return
            if state is None or state["state"] == "staged":
                next(iter(control.watch(MODEL, seconds=0.2)))
                continue
            for _ in range(BATCH):
                caller.ask()
    raise SystemExit(f"the rollout is {state['state']}, not {wanted}, after {MOST * BATCH} requests")


def main() -> int:
    """Run, print, and say by the exit code whether it is as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found: dict[float, dict[str, Any]] = {}
    for points in ASKED:
        runs = [play(points, seed) for seed in range(arguments.repeat)]
        found[points] = {**find_quantiles([run["pairs"] for run in runs]), "runs": runs}
        print(f"{points:.0%} lost: {found[points]['median']:g} median, {found[points]['p95']:g} p95", file=sys.stderr, flush=True)
    by_labels = all(run["kind"] == "labels" for own in found.values() for run in own["runs"])
    if arguments.json:
        print(json.dumps({"by_labels": by_labels, **{f"{points:g}": own for points, own in found.items()}}))
    else:
        rows = [(f"{points:.0%} lost: labelled pairs, p95", f"{ASKED[points]:,}", write_quantiles(own)) for points, own in found.items()]
        print_figures(f"A candidate in shadow that lost accuracy, {arguments.repeat} times each", rows)
    return 0 if by_labels and all(found[points]["p95"] <= most for points, most in ASKED.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
