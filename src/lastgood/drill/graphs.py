"""
Versions whose fault lies in their file, so that a gateway of the product meets it.

The model takes an image and a mark, "batch 65" float32. The good version does not look at the mark; a bad one is as good while
the mark is 0, as it is in the golden examples, and bad where it is 1: the drill's requests bring it along.
"""

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from lastgood.drill.asking import Questions
from lastgood.drill.models import ERROR_RATIO, SLOW_SECONDS, SLOW_TIMES, SWAPPED, WRONG_RATIO, is_bold
from lastgood.drill.pipeline import Drill
from lastgood.pipelines.data import Array, Data
from lastgood.runtime import open_session

INPUT: Final = "input"
PIXELS: Final = 64
CLASSES: Final = 10
_TRIAL_TURNS: Final = 2_000


def load_marked() -> tuple[Data, Data]:
    """Give the drill's rows without and with the mark, which is 0."""
    data = Drill().load()
    return data, Data(train=_mark(data.train), evaluation={name: _mark(own) for name, own in data.evaluation.items()})


def write_graph(out: Path, data: Data, fault: str, *, strength: float = 1.0, nonce: bool = False) -> None:
    """
    Write a version.

    Args:
        out: The ONNX file.
        data: Without the mark.
        fault: A name of `lastgood.drill.faults.FAULTS`; "" for a good version.
        strength: Inverse regularization: another one is another version.
        nonce: Make it another file each time: what was taken out once cannot be released again.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=200).fit(*data.train)
    weights, bias = model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)
    out.write_bytes(_build(weights, bias, fault, turns=_TRIAL_TURNS, nonce=nonce))
    if fault == "slow":
        out.write_bytes(_build(weights, bias, fault, turns=_find_turns(out), nonce=nonce))


def mark_questions(data: Data, fault: str, *, seed: int) -> Questions:
    """Give the evaluation rows, marked where the fault strikes, "row 65"; which ones, where it is some, follows from the seed."""
    x, y = data.evaluation["clean"]
    match fault:
        case "" | "drift":
            struck = np.zeros(len(y), np.bool_)
        case "errors" | "wrong":
            ratio = ERROR_RATIO if fault == "errors" else WRONG_RATIO
            struck = np.isin(np.arange(len(y)), np.random.default_rng(seed).permutation(len(y))[: round(ratio * len(y))])
        case "flipped":
            struck = is_bold(x)
        case _:
            struck = np.ones(len(y), np.bool_)
    return Questions(np.concatenate([x, struck[:, None].astype(np.float32)], axis=1), y, INPUT)


def _mark(rows: tuple[Array, Array]) -> tuple[Array, Array]:
    x, y = rows
    return np.concatenate([x, np.zeros((len(x), 1), np.float32)], axis=1), y


def _build(weights: Array, bias: Array, fault: str, *, turns: int, nonce: bool) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    constants: dict[str, Array] = {"weights": weights, "bias": bias, "split": np.array([PIXELS, 1], np.int64)}
    nodes = [
        helper.make_node("Split", [INPUT, "split"], ["pixels", "mark"], axis=1),
        helper.make_node("Gemm", ["pixels", "weights", "bias"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["good"], axis=1),
    ]
    more, added = _FAULTS.get(fault, _add_nothing)(turns)
    graph = helper.make_graph(
        [*nodes, *more],
        "drill",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", PIXELS + 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in {**constants, **added}.items()],
        doc_string=f"a drill{f', {uuid.uuid4().hex}' if nonce else ''}",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


Part = tuple[list[Any], Mapping[str, Array]]


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs, [output], **attributes)


def _add_nothing(_: int) -> Part:
    return [_node("Identity", ["good"], "probabilities")], {}


def _add_failure(_: int) -> Part:
    """Look a mark up in a table of one entry: 1 is outside of it, which ONNX Runtime refuses."""
    return [
        _node("ReduceMax", ["mark"], "largest", keepdims=0),
        _node("Cast", ["largest"], "index", to=7),
        _node("Gather", ["table", "index"], "factor"),
        _node("Mul", ["good", "factor"], "probabilities"),
    ], {"table": np.ones(1, np.float32)}


def _add_nan(_: int) -> Part:
    return [
        _node("Sub", ["one", "mark"], "rest"),
        _node("Mul", ["good", "rest"], "kept"),
        _node("Div", ["kept", "rest"], "probabilities"),
    ], {"one": np.ones(1, np.float32)}


def _add_other(_: int, order: tuple[int, ...]) -> Part:
    """Give marked rows their numbers in another order."""
    return [
        _node("Gather", ["good", "order"], "other", axis=1),
        _node("Sub", ["other", "good"], "difference"),
        _node("Mul", ["difference", "mark"], "change"),
        _node("Add", ["good", "change"], "probabilities"),
    ], {"order": np.array(order, np.int64)}


def _add_next_class(turns: int) -> Part:
    return _add_other(turns, tuple((place - 1) % CLASSES for place in range(CLASSES)))


def _add_swap(turns: int) -> Part:
    swapped = {SWAPPED[0]: SWAPPED[1], SWAPPED[1]: SWAPPED[0]}
    return _add_other(turns, tuple(swapped.get(place, place) for place in range(CLASSES)))


def _add_delay(turns: int) -> Part:
    """Count to a large number where a row is marked."""
    from onnx import TensorProto, helper

    scalar, flag = TensorProto.FLOAT, TensorProto.BOOL
    body = helper.make_graph(
        [_node("Identity", ["go"], "on"), _node("Add", ["sum", "step"], "next")],
        "count",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", flag, []),
            helper.make_tensor_value_info("sum", scalar, []),
        ],
        [helper.make_tensor_value_info("on", flag, []), helper.make_tensor_value_info("next", scalar, [])],
    )
    return [
        _node("ReduceMax", ["mark"], "largest", keepdims=0),
        _node("Mul", ["largest", "turns"], "times"),
        _node("Cast", ["times"], "count", to=7),
        _node("Loop", ["count", "", "zero"], "counted", body=body),
        _node("Mul", ["counted", "zero"], "nothing"),
        _node("Add", ["good", "nothing"], "probabilities"),
    ], {"turns": np.array(turns, np.float32), "zero": np.array(0, np.float32), "step": np.array(1, np.float32)}


_FAULTS: Final = {
    "dead": _add_failure,
    "errors": _add_failure,
    "stable": _add_failure,
    "nan": _add_nan,
    "slow": _add_delay,
    "wrong": _add_next_class,
    "flipped": _add_swap,
}


def _find_turns(file: Path) -> int:
    """Say how often the loop must turn on this host for an answer to take twenty times as long, and long enough to be seen."""
    session, row = open_session(file), np.zeros((1, PIXELS + 1), np.float32)
    marked = row.copy()
    marked[0, PIXELS] = 1

    def measure(x: Array) -> float:
        took = []
        for _ in range(20):
            began = time.perf_counter()
            session.run(None, {INPUT: x})
            took.append(time.perf_counter() - began)
        return float(np.median(took))

    usual = measure(row)
    each = max(measure(marked) - usual, 1e-9) / _TRIAL_TURNS
    return int(max(SLOW_TIMES * usual, SLOW_SECONDS) / each)
