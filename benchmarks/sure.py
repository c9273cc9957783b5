"""Versions of the model ``scale`` that name one of two classes, are more or less sure of it, and have a drift reference."""

import numpy as np
from onnx import TensorProto, helper
from place import Built

from lastgood.monitoring.drift.features import plan_features
from lastgood.monitoring.drift.profile import calibrate_answers, make_profile
from lastgood.tensors import TensorSpec


def build_sure(number: int) -> Built:
    """Give version k, "batch" float64 to "batch 2" float64: how likely ``x`` is above 2, the surer the larger k is."""
    nodes = [
        helper.make_node("Sub", ["x", "two"], ["d"]),
        helper.make_node("Mul", ["d", "k"], ["s"]),
        helper.make_node("Unsqueeze", ["s", "one"], ["above"]),
        helper.make_node("Neg", ["above"], ["below"]),
        helper.make_node("Concat", ["below", "above"], ["scores"], axis=1),
        helper.make_node("Softmax", ["scores"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "sure",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["n", 2])],
        [
            helper.make_tensor("two", TensorProto.DOUBLE, [], [2.0]),
            helper.make_tensor("k", TensorProto.DOUBLE, [], [float(number)]),
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.random.default_rng(number).normal(2.5, 1.0, 2_000)
    above = 1 / (1 + np.exp(-2 * number * (x - 2)))
    outputs = {"y": np.stack([1 - above, above], axis=1)}
    labels = (x + np.random.default_rng(0).normal(0, 0.5, len(x)) > 2).astype(np.int64)
    calibration = calibrate_answers(plan_features({"x": x}, outputs), outputs, labels)
    profile = make_profile({"x": x}, outputs, calibration=calibration)
    files = {"drift.bin": profile.to_bytes(), "model.onnx": bytes(model.SerializeToString())}
    return Built(files, (TensorSpec("x", "FP64", (-1,)),), (TensorSpec("y", "FP64", (-1, 2)),), "drift.bin")
