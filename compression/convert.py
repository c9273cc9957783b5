"""A trained model to an ONNX file with one input and one output, "batch class" float32 probabilities, checked on real rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lastgood.errors import UsageError
from lastgood.runtime import open_session

OPSET = 17  # 18 splits GlobalAveragePool, and tf2onnx 1.17 refuses 19
OUTPUT_NAME = "probabilities"
Array = np.ndarray[Any, Any]


class ConversionError(UsageError):
    """The model cannot become such an ONNX file, or the file answers otherwise than the model."""

    code = "compression.conversion"


def kind_of(model: Any) -> Literal["tf_keras", "sklearn"]:
    """
    Say which framework a model is of, without importing either.

    Raises:
        ConversionError: It is of neither.
    """
    modules = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
    if "tf_keras" in modules:
        return "tf_keras"
    if "sklearn" in modules and hasattr(model, "fit"):
        return "sklearn"
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    if "keras" in modules:
        raise ConversionError(f"build() gave a Keras 3 model ({name}), which cannot be pruned: import tf_keras and build the same with it.")
    raise ConversionError(f"build() gave {name}; expected a tf_keras model or a scikit-learn classifier.")


def convert(model: Any, out: Path, *, input_name: str, rows: Array) -> None:
    """
    Write a fitted model as ONNX and check that the file gives the model's own answers.

    Args:
        model: tf_keras model with one input and softmax output, or scikit-learn classifier with ``predict_proba``.
        out: Where to write; the parent exists.
        input_name: What the graph's input is to be called.
        rows: "row feature…" float32, real ones; 100 are plenty.

    Raises:
        ConversionError: Other inputs or outputs than promised, or answers that differ.
    """
    if kind_of(model) == "tf_keras":
        graph = _convert_keras(model, input_name)
        expected, tolerance, share = model.predict(rows, verbose=0, batch_size=256), 1e-4, 1.0
    else:
        graph = _convert_sklearn(model, input_name, rows.shape[1:])
        # Trees compare in float32 what they learned in float64: a row on a threshold may fall to the other side.
        expected, tolerance, share = model.predict_proba(rows), 1e-3, 0.995
    out.write_bytes(graph.SerializeToString(deterministic=True))
    check_graph(out, input_name)
    check_parity(out, input_name, rows, np.asarray(expected), tolerance=tolerance, share=share)


def _convert_keras(model: Any, input_name: str) -> Any:
    import tensorflow as tf
    import tf2onnx

    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ConversionError(f"The model has {len(model.inputs)} inputs and {len(model.outputs)} outputs; expected one of each.")
    signature = (tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32, name=input_name),)
    graph, _ = _guard("tf2onnx", lambda: tf2onnx.convert.from_keras(model, input_signature=signature, opset=OPSET))
    return _rename(graph)


def _convert_sklearn(model: Any, input_name: str, row_shape: tuple[int, ...]) -> Any:
    from onnx import TensorProto
    from onnx.helper import make_tensor_value_info
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs

    classes = getattr(model, "classes_", None)
    if classes is None or not hasattr(model, "predict_proba"):
        raise ConversionError(f"{type(model).__name__} gives no probabilities; expected a classifier with predict_proba().")
    if not np.array_equal(classes, np.arange(len(classes))):
        raise ConversionError(f"The classes are {np.asarray(classes)[:5].tolist()}…; expected 0 to {len(classes) - 1} without a gap.")
    if len(row_shape) != 1:
        raise ConversionError(f"Rows have shape {row_shape}; a scikit-learn model takes flat rows (features,).")
    graph = _guard(
        "skl2onnx",
        lambda: convert_sklearn(
            model,
            name="model",
            initial_types=[(input_name, FloatTensorType([None, row_shape[0]]))],
            options={id(model): {"zipmap": False}},
            target_opset={"": OPSET, "ai.onnx.ml": 3},
        ),
    )
    graph = _rename(select_model_inputs_outputs(graph, outputs=[graph.graph.output[-1].name]))
    # Some converters leave the shape out; who serves it must know it.
    output = graph.graph.output[0]
    output.CopyFrom(make_tensor_value_info(output.name, TensorProto.FLOAT, ["batch", len(classes)]))
    return graph


def _guard(converter: str, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as exc:  # converters raise whatever the operator they stumble on raises
        raise ConversionError(
            f"{converter} cannot convert the model: {type(exc).__name__}: {str(exc).splitlines()[0] if str(exc) else ''}."
        ) from exc


def _rename(graph: Any) -> Any:
    """
    Name the output as promised, and everything inside by its place.

    Converters number what they make per process: with their names, the same model would be another digest after a
    second conversion.
    """
    inner = graph.graph
    if any(attribute.HasField("g") for node in inner.node for attribute in node.attribute):
        raise ConversionError("The converted graph has branches or loops of its own; expected a plain chain of operators.")
    inner.name = "model"
    del inner.value_info[:]
    names = {"": "", **{own.name: own.name for own in inner.input}, inner.output[0].name: OUTPUT_NAME}
    for position, node in enumerate(inner.node):
        node.name = f"{node.op_type}_{position}"
        for own in (node.input, node.output):
            for index, name in enumerate(own):
                own[index] = names.setdefault(name, f"tensor_{len(names)}")
    for weights in inner.initializer:
        weights.name = names.get(weights.name, weights.name)
    ordered = sorted(inner.initializer, key=lambda weights: weights.name)
    del inner.initializer[:]
    inner.initializer.extend(ordered)
    inner.output[0].name = OUTPUT_NAME
    for value in (*inner.input, *inner.output):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.HasField("dim_value"):
                size.dim_param = "batch" if axis == 0 else f"axis_{axis}"
    return graph


def check_graph(file: Path, input_name: str) -> None:
    """
    Check inputs and outputs by name: a converter's success is no proof (two bogus inputs have been seen).

    Raises:
        ConversionError: Not exactly one input of this name, or not one float32 output of two axes with two classes or more.
    """
    session = open_session(file)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [value.name for value in inputs] != [input_name]:
        raise ConversionError(f"The converted graph takes {[value.name for value in inputs]}; expected [{input_name!r}].")
    shapes = [(value.name, value.type, value.shape) for value in outputs]
    if len(outputs) != 1 or outputs[0].type != "tensor(float)" or len(outputs[0].shape) != 2 or outputs[0].shape[1] == 1:
        raise ConversionError(
            f"The converted graph gives {shapes}; expected one float32 output (batch, classes) of two classes or more: end with a softmax."
        )


def check_parity(file: Path, input_name: str, rows: Array, expected: Array, *, tolerance: float, share: float) -> None:
    """
    Compare a file's answers with the framework's.

    Args:
        file: The ONNX file.
        input_name: Its input.
        rows: "row feature…" float32.
        expected: "row class" probabilities from the framework.
        tolerance: Largest absolute difference of a probability.
        share: Share of rows that must be within it.

    Raises:
        ConversionError: Fewer rows are.
    """
    (actual,) = open_session(file).run([OUTPUT_NAME], {input_name: rows})
    if actual.shape != expected.shape:
        raise ConversionError(f"The converted file answers with shape {actual.shape}; the model itself with {expected.shape}.")
    difference = np.abs(actual - expected).max(axis=1)
    if float((difference <= tolerance).mean()) < share:
        raise ConversionError(
            f"The converted file answers otherwise than the model: probabilities differ by up to {difference.max():.2g} on "
            f"{int((difference > tolerance).sum())} of {len(rows)} rows; expected {tolerance:g} at most."
        )
