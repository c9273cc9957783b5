"""float32 ONNX files to int8 ones, with ONNX Runtime's quantization."""

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lastgood.compression.recipes import MATRIX_OPERATORS, RecipeDoesNotFitError
from lastgood.errors import UsageError

Array = np.ndarray[Any, Any]

# Softmax and what follows it stays float32: probabilities in steps of 1/256 would be a loss for nothing.
_STATIC_OPERATORS = (
    *("Conv", "Gemm", "MatMul", "Add", "Mul", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Reshape", "Transpose", "Squeeze", "Flatten", "Concat"),
)
_BATCH = 64
_FEW_CHANNELS = 4
_SMALL_HEAD = 0.1  # of all weights


class CalibrationError(UsageError):
    """There is nothing to measure ranges on, or a value is not finite."""

    code = "compression.calibration"


def quantize_static(model: Path, out: Path, samples: Array, *, input_name: str) -> None:
    """
    Quantize weights and activations to int8, with ranges measured on samples.

    Activations are unsigned and weights signed, one scale per output channel, written as QuantizeLinear and
    DequantizeLinear pairs: signed activations were measured slower than float32 on x86.

    Args:
        model: ONNX file, opset 13 or later, float32 weights.
        out: Where to write.
        samples: "row feature…" float32, 100 rows or more for stable ranges.
        input_name: The graph's input.

    Raises:
        CalibrationError: No samples, or one is not finite.
        RecipeDoesNotFitError: The library refuses the model, such as one whose biases are no plain vectors.

    Source: ONNX Runtime, "Quantize ONNX models", static quantization.
    """
    from onnxruntime.quantization import QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize

    if not len(samples) or not np.isfinite(samples).all():
        raise CalibrationError(
            f"Calibration got {len(samples)} rows, finite: {bool(np.isfinite(samples).all())}; expected 100 or more, all finite."
        )
    with _prepared(model) as prepared, _refusing():
        quantize(
            str(prepared),
            str(out),
            _Rows(input_name, samples),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(_STATIC_OPERATORS),
            nodes_to_exclude=list_sensitive(prepared),
        )


def quantize_dynamic(model: Path, out: Path) -> None:
    """
    Quantize weights to int8; ranges of activations are measured on every call.

    Args:
        model: ONNX file, opset 11 or later, float32 weights in MatMul or Gemm.
        out: Where to write.

    Raises:
        RecipeDoesNotFitError: The library refuses the model.

    Source: ONNX Runtime, "Quantize ONNX models", dynamic quantization.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as quantize

    with _prepared(model) as prepared, _refusing():
        quantize(str(prepared), str(out), weight_type=QuantType.QInt8, per_channel=True)


def list_sensitive(model: Path) -> list[str]:
    """
    Name the nodes that stay float32: a first convolution of few channels, and a head of few weights.

    Both cost accuracy and gain no time: a convolution of one to four channels has little arithmetic, and the pixels
    themselves are rounded; a small head rounds the scores that the labels are decided by.

    Args:
        model: ONNX file with constants folded, so that weights are initializers.
    """
    import onnx

    graph = onnx.load(str(model)).graph
    shapes = {weights.name: tuple(weights.dims) for weights in graph.initializer}
    weighted = [
        (node, shapes[name]) for node in graph.node if node.op_type in MATRIX_OPERATORS for name in node.input[1:2] if name in shapes
    ]
    sensitive = []
    first, first_shape = weighted[0] if weighted else (None, ())
    if first is not None and first.op_type == "Conv" and first_shape[1] <= _FEW_CHANNELS:
        sensitive.append(first)
    last, last_shape = weighted[-1] if weighted else (None, ())
    total = sum(math.prod(shape) for _, shape in weighted)
    if last is not None and last.op_type != "Conv" and math.prod(last_shape) <= _SMALL_HEAD * total:
        sensitive += [last, *(node for node in graph.node if node.op_type == "Add" and set(node.input) & set(last.output))]
    return [node.name for node in sensitive]


class _Rows:
    """ONNX Runtime's calibration reader over an array."""

    def __init__(self, input_name: str, samples: Array) -> None:
        self._batches: Iterator[dict[str, Array]] = (
            {input_name: samples[start : start + _BATCH]} for start in range(0, len(samples), _BATCH)
        )

    def get_next(self) -> dict[str, Array] | None:
        """Give the next batch, or None after the last."""
        return next(self._batches, None)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Turn what the quantizer raises, which has no base class of its own, into a recipe that does not fit."""
    try:
        yield
    except Exception as exc:
        reason = (str(exc).splitlines() or [""])[0].rstrip(".")
        raise RecipeDoesNotFitError(f"ONNX Runtime's quantizer stopped with {type(exc).__name__}: {reason}") from exc


@contextlib.contextmanager
def _prepared(model: Path) -> Iterator[Path]:
    """Give the model with shapes inferred and constants folded, as the quantizer wants it."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)  # the quantizer warns, on the root logger, to do what is done here
    try:
        with TemporaryDirectory(prefix="lastgood-quantize-") as folder:
            prepared = Path(folder) / "prepared.onnx"
            # Symbolic shapes need sympy and help with dynamic axes inside only, not with a dynamic batch.
            quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
            yield prepared
    finally:
        root.setLevel(before)
