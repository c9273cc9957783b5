"""Graphs of two versions: real models with operators, nodes, functions and inner graphs changed, and models made to harm."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from lastgood.registry.compare.graph import GraphChanges, compare_graphs
from lastgood.registry.compare.outline import read_outline
from lastgood.registry.compare.versions import compare_versions
from lastgood.registry.registry import Registry
from tests.registry.test_locate import Held
from tests.registry.test_locate_onnx import message
from tests.registry.versions_of_files import add_version, make_onnx

node = helper.make_node


def compare(before: bytes, after: bytes, compared: frozenset[str] = frozenset()) -> GraphChanges:
    return compare_graphs("model.onnx", read_outline(Held(before)), read_outline(Held(after)), compared)


def changes(listed: Any) -> dict[str, tuple[str | None, str | None]]:
    found = {own.name: (own.before, own.after) for own in listed}
    assert len(found) == len(listed)
    return found


def test_operators_are_counted_by_type_and_domain() -> None:
    """Quantizing a graph adds operators of another domain; nodes say by name what happened to them."""
    before = make_onnx({}, [node("MatMul", ["x", "w"], ["h"], "mm"), node("Relu", ["h"], ["y"], "act"), node("Relu", ["y"], ["z"])])
    after = make_onnx(
        {},
        [
            node("QLinearMatMul", ["x", "w_q"], ["h"], "mm", domain="com.microsoft"),
            node("Relu", ["h"], ["y"], "act"),
            node("Sigmoid", ["y"], ["q"]),
        ],
    )
    found = compare(before, after)
    assert {"MatMul": (1, 0), "Relu": (2, 1), "Sigmoid": (0, 1), "com.microsoft:QLinearMatMul": (0, 1)} == {
        own.title: (own.before, own.after) for own in found.operators
    }
    assert {
        "mm": ("MatMul; inputs x, w", "com.microsoft:QLinearMatMul; inputs x, w_q"),
        "(z)": ("Relu", None),
        "(q)": (None, "Sigmoid"),
    } == changes(found.nodes)
    assert not compare(before, before).differs


def test_the_default_domain_has_two_spellings() -> None:
    """Nothing and ai.onnx are one."""
    before, after = (make_onnx({}, [node("Relu", ["x"], ["y"], "r", domain=domain)]) for domain in ("", "ai.onnx"))
    assert not compare(before, after).differs


def test_attributes_that_changed_are_shown() -> None:
    """Short ones as they are; long ones, tensors and lists by a hash. Order and descriptions mean nothing."""
    many = [0.5 + number for number in range(40)]
    values = {"pads": [0, 0, -1, 1], "alpha": 0.25, "mode": "reflect", "axis": 1, "many": many, "gone": 1}
    before = make_onnx({}, [node("Odd", ["x"], ["y"], "n", doc_string="one", **values)])
    backwards = dict(reversed(values.items()))
    assert not compare(before, make_onnx({}, [node("Odd", ["x"], ["y"], "n", doc_string="two", **backwards)])).differs
    values |= {"pads": [0, 0, 2, 1], "alpha": 0.5, "mode": "edge", "many": [*many[:-1], 7.0]}
    del values["gone"]
    was, now = changes(compare(before, make_onnx({}, [node("Odd", ["x"], ["y"], "n", **values)])).nodes)["n"]
    assert was is not None
    assert now is not None
    for text in ("pads 0, 0, -1, 1", "alpha 0.25", "mode 'reflect'", "gone 1"):
        assert text in was.split("; ")
    for text in ("pads 0, 0, 2, 1", "alpha 0.5", "mode 'edge'", "no gone"):
        assert text in now.split("; ")
    assert "many" in was
    assert "axis" not in was


def test_values_of_constants_count() -> None:
    """A Constant with another tensor is another node."""
    before, after = (
        make_onnx({}, [node("Constant", [], ["k"], "c", value=helper.make_tensor("", TensorProto.INT4, [4], data, raw=True))])
        for data in (b"\x12\x34", b"\x12\x35")
    )
    assert ["c"] == list(changes(compare(before, after).nodes))


def test_graphs_in_attributes_and_functions_are_compared_node_by_node() -> None:
    """Under the name of the node they are in."""

    def make(inner: str, own: str) -> bytes:
        branches = [helper.make_graph([node(kind, ["x"], ["b"], "in")], "g", [], []) for kind in (inner, "Neg")]
        function = helper.make_function("own", "F", ["a"], ["b"], [node(own, ["a"], ["b"], "f")], [helper.make_opsetid("", 17)])
        return make_onnx({}, [node("If", ["c"], ["y"], "choose", then_branch=branches[0], else_branch=branches[1])], functions=[function])

    found = compare(make("Relu", "Abs"), make("Tanh", "Exp"))
    assert {"choose/then_branch/in": ("Relu", "Tanh"), "function own:F/f": ("Abs", "Exp")} == changes(found.nodes)
    assert {"Abs": (1, 0), "Exp": (0, 1), "If": (1, 1), "Neg": (1, 1), "Relu": (1, 0), "Tanh": (0, 1)} == {
        own.title: (own.before, own.after) for own in found.operators
    }


def test_operator_sets_are_compared() -> None:
    """And the format's version."""
    before, after = make_onnx({}), make_onnx({}, opset=18)
    assert {"opset ai.onnx": ("17", "18")} == changes(compare(before, after).opsets)
    other = onnx.load_from_string(before)
    other.ir_version = 10
    other.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert {"IR version": ("9", "10"), "opset com.microsoft": (None, "1")} == changes(compare(before, other.SerializeToString()).opsets)


def test_initializers_that_are_no_tensors_are_compared_as_they_are_written() -> None:
    """Lists of numbers and four-bit types have no elements in a row; sparse ones have places too."""
    values = np.ones(3, np.float32)

    def make(number: int) -> bytes:
        protos = [
            helper.make_tensor("list", TensorProto.INT64, [2], [1, number]),
            helper.make_tensor("four", TensorProto.INT4, [4], bytes([1, number]), raw=True),
            helper.make_tensor("same", TensorProto.INT64, [2], [1, 2]),
        ]
        model = onnx.load_from_string(make_onnx({"float": values * number}, protos=protos))
        sparse = helper.make_sparse_tensor(
            onnx.numpy_helper.from_array(values, "sparse"), onnx.numpy_helper.from_array(np.array([0, 1, number])), [9]
        )
        model.graph.sparse_initializer.append(sparse)
        data: bytes = model.SerializeToString()
        return data

    found = changes(compare(make(3), make(4), frozenset({"float"})).initializers)
    assert {"list", "four", "sparse"} == set(found)
    assert all(
        was is not None and was.startswith(("INT64 [2], values", "INT4 [4], values", "sparse [9], values")) for was, _ in found.values()
    )
    assert {"list", "four", "sparse", "float"} == set(changes(compare(make(3), make(4)).initializers))


def test_a_version_is_compared_from_the_store_without_its_weights(registry: Registry, tmp_path: Path) -> None:
    """Nodes behind large initializers are found, and the values of those are the tensors' business."""
    weights = {"w": np.arange(6000, dtype=np.float32)}
    files = [
        make_onnx(weights, [node("Relu", ["x"], ["y"], "r")]),
        make_onnx({"w": weights["w"] + 1}, [node("Relu", ["x"], ["h"], "r"), node("Exp", ["h"], ["y"], "e")]),
    ]
    found = compare_versions(
        registry, add_version(registry, tmp_path, {"model.onnx": files[0]}), add_version(registry, tmp_path, {"model.onnx": files[1]})
    )
    (graph,) = found.graphs
    assert {"r": ("outputs y", "outputs h"), "e": (None, "Exp")} == changes(graph.nodes)
    assert () == graph.initializers
    assert {"w": "changed"} == {own.name: own.change for own in found.tensors}


def test_a_model_that_cannot_be_read_to_its_end_says_so(registry: Registry, tmp_path: Path) -> None:
    """What comes before is compared."""
    good = make_onnx({}, [node("Relu", ["x"], ["y"], "r")])
    files = [good, good[: len(good) // 2]]
    found = compare_versions(
        registry, add_version(registry, tmp_path, {"model.onnx": files[0]}), add_version(registry, tmp_path, {"model.onnx": files[1]})
    )
    (graph,) = found.graphs
    assert ["second" in problem for problem in graph.problems] == [True]


def test_deep_graphs_end() -> None:
    """Graphs in graphs in graphs are a problem that is said, no crash."""
    graph = b""
    for _ in range(400):  # onnx itself makes none so deep
        graph = message(1, message(4, b"If") + message(5, message(1, b"then_branch") + message(6, graph)))
    data = message(7, graph)
    assert compare(data, data).problems


def test_many_nodes_of_one_name_are_kept_apart_in_order() -> None:
    """And in time that grows as they do."""
    before = make_onnx({}, [node("Relu", ["x"], ["y"], "same")] * 20_000)
    after = make_onnx({}, [node("Relu", ["x"], ["y"], "same")] * 19_999)
    assert {"same#20000": ("Relu", None)} == changes(compare(before, after).nodes)


SEED = make_onnx({"w": np.ones(40, np.float32)}, [node("If", ["c"], ["y"], "i", then_branch=helper.make_graph([], "g", [], []), k=3)])


@given(st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(SEED)))
def test_no_damaged_model_harms_who_compares_it(flips: list[tuple[int, int]], length: int) -> None:
    """Any bytes give an answer: wrong names perhaps, a problem perhaps, never another error."""
    data = bytearray(SEED)
    for place, value in flips:
        data[place] = value
    found = compare(SEED, bytes(data[:length]))
    assert found.path


@pytest.mark.parametrize("data", [b"", b"\x08", b"\x3a\xff\xff\xff\xff\x0f", bytes(1000)])
def test_what_is_no_model_is_a_problem_or_nothing(data: bytes) -> None:
    """Not an error either."""
    assert not read_outline(Held(data)).nodes
