"""The model that is soaked: three scores of eight whole numbers, times the version, so that every answer says who gave it."""

from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper
from place import Built

from lastgood.monitoring.drift.profile import make_profile
from lastgood.tensors import TensorSpec

FEATURES: Final = 8
CLASSES: Final = 3
WEIGHTS: Final = np.random.default_rng(0).integers(-3, 4, (FEATURES, CLASSES)).astype(np.float32)
Array = np.ndarray[Any, np.dtype[np.float32]]


def build(number: int) -> Built:
    """Give version k: ``y = k * x W``, "batch 3" float32, with a reference for drift."""
    weights = WEIGHTS * number
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "scores",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = draw_rows(np.random.default_rng(number), 5_000)
    profile = make_profile({"x": x}, {"y": x @ weights})
    files = {"model.onnx": bytes(model.SerializeToString()), "drift.bin": profile.to_bytes()}
    return Built(files, (TensorSpec("x", "FP32", (-1, FEATURES)),), (TensorSpec("y", "FP32", (-1, CLASSES)),), "drift.bin")


def draw_rows(source: np.random.Generator, rows: int) -> Array:
    """Draw "row feature" float32 whole numbers, whose products and sums are exact."""
    return source.integers(-50, 51, (rows, FEATURES)).astype(np.float32)


def is_right(x: Array, y: Array, version: int) -> bool:
    """Say whether these are the version's answers to the rows."""
    return bool(np.array_equal(y.reshape(-1, CLASSES), x @ WEIGHTS * version))


def find_label(x: Array) -> int:
    """Give the class that every version names for one row."""
    return int(np.argmax(x @ WEIGHTS))
