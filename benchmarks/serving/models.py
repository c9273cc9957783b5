"""
The models: drawn weights of a fixed seed, float32, a free first axis, input ``x`` and output ``y``.

What a network learned does not change how long it takes, so nothing is trained or downloaded.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper

Array = np.ndarray[Any, Any]
# Expansion, channels, repeats, stride of the first. Source: Sandler et al., "MobileNetV2", 2018, table 2.
_MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


@dataclass(frozen=True)
class Model:
    """What is served."""

    name: str
    title: str
    shape: tuple[int, ...]  # of one row
    classes: int
    data: bytes  # ONNX
    bodies: int  # how many different requests are sent round and round

    def rows(self) -> Array:
        """Give the inputs, "bodies …" float64 of four decimals, so that every server parses the same short numbers."""
        return np.random.default_rng(0).normal(size=(self.bodies, *self.shape)).round(4)


class _Graph:
    """A graph that grows at its end."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.last = "x"

    def draw(self, *shape: int) -> str:
        """Add drawn weights that keep the size of what passes through them."""
        fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        values = (self._random.normal(size=shape) * np.sqrt(2 / fan)).astype(np.float32)
        name = f"w{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, TensorProto.FLOAT, shape, values.tobytes(), raw=True))
        return name

    def add(self, kind: str, *more: str, **attributes: Any) -> None:
        """Add an operator on what came last."""
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.last, *more], [out], **attributes))
        self.last = out

    def convolve(self, given: int, wanted: int, size: int, *, stride: int = 1, group: int = 1) -> None:
        """Add a convolution that keeps the picture's size, over its stride."""
        weights, bias = self.draw(wanted, given // group, size, size), self.draw(wanted)
        self.add("Conv", weights, bias, kernel_shape=[size, size], strides=[stride] * 2, pads=[size // 2] * 4, group=group)

    def clip(self) -> None:
        """Add a ReLU6."""
        if not any(constant.name == "six" for constant in self.constants):
            self.constants += [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in (("zero", 0.0), ("six", 6.0))]
        self.add("Clip", "zero", "six")

    def close(self, shape: tuple[int, ...], classes: int, note: str) -> bytes:
        """End with a softmax and give the file."""
        self.add("Softmax", axis=1)
        self.nodes[-1].output[0] = "y"
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, doc_string=note)
        return bytes(model.SerializeToString())


def build_mlp(note: str = "") -> Model:
    """Give 30, 64, 32 and 2 neurons."""
    graph = _Graph(1)
    for given, wanted in ((30, 64), (64, 32), (32, 2)):
        graph.add("Gemm", graph.draw(given, wanted), graph.draw(wanted))
        if wanted > 2:
            graph.add("Relu")
    return Model("mlp", "MLP 30-64-32-2", (30,), 2, graph.close((30,), 2, note), 64)


def build_cnn(note: str = "") -> Model:
    """Give two convolutions and a dense layer with nearly all of the megabyte of weights, on 1x32x32."""
    graph = _Graph(2)
    for given, wanted in ((1, 16), (16, 16)):
        graph.convolve(given, wanted, 3)
        graph.add("Relu")
        graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("Flatten", axis=1)
    for given, wanted in ((1024, 256), (256, 10)):
        graph.add("Gemm", graph.draw(given, wanted), graph.draw(wanted))
        if wanted > 10:
            graph.add("Relu")
    return Model("cnn", "CNN 1x32x32-10", (1, 32, 32), 10, graph.close((1, 32, 32), 10, note), 32)


def build_mobilenet(note: str = "") -> Model:
    """Give MobileNetV2's operators at 224, batch normalisation folded into the convolutions as exporters do."""
    graph = _Graph(3)
    graph.convolve(3, 32, 3, stride=2)
    graph.clip()
    channels = 32
    for expansion, wanted, repeats, first in _MOBILENET:
        for number in range(repeats):
            stride, before, inner = (first if number == 0 else 1), graph.last, channels * expansion
            if expansion > 1:
                graph.convolve(channels, inner, 1)
                graph.clip()
            graph.convolve(inner, inner, 3, stride=stride, group=inner)
            graph.clip()
            graph.convolve(inner, wanted, 1)
            if stride == 1 and channels == wanted:
                graph.add("Add", before)
            channels = wanted
    graph.convolve(channels, 1280, 1)
    graph.clip()
    graph.add("GlobalAveragePool")
    graph.add("Flatten", axis=1)
    graph.add("Gemm", graph.draw(1280, 1000), graph.draw(1000))
    return Model("mobilenet", "MobileNetV2 at 224", (3, 224, 224), 1000, graph.close((3, 224, 224), 1000, note), 2)


BUILDERS = {"mlp": build_mlp, "cnn": build_cnn, "mobilenet": build_mobilenet}
