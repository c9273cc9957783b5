"""Converting scikit-learn models and quantizing ONNX files, on real ones."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lastgood.compression.convert import ConversionError, check_parity, convert
from lastgood.compression.measure import measure_interleaved
from lastgood.compression.quantize import CalibrationError, list_sensitive, quantize_dynamic, quantize_static
from lastgood.runtime import open_session, read_signature
from lastgood.tensors import TensorSpec

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(200, 6)).astype(np.float32)
LABELS = (ROWS[:, 0] + ROWS[:, 1] ** 2 > 0.5).astype(np.int64)


@pytest.mark.parametrize("model", [make_pipeline(StandardScaler(), LogisticRegression()), RandomForestClassifier(8, random_state=0)])
def test_a_classifier_becomes_one_input_and_its_probabilities(tmp_path: Path, model: Any) -> None:
    """Labels and maps are gone: one float32 output, batch by class, equal to predict_proba."""
    model.fit(ROWS, LABELS)
    convert(model, tmp_path / "model.onnx", input_name="rows", rows=ROWS)
    session = open_session(tmp_path / "model.onnx")
    assert read_signature(session) == ((TensorSpec("rows", "FP32", (-1, 6)),), (TensorSpec("probabilities", "FP32", (-1, 2)),))
    np.testing.assert_allclose(session.run(None, {"rows": ROWS})[0], model.predict_proba(ROWS), atol=1e-3)


def test_converting_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """The file depends on the model only."""
    model = LogisticRegression().fit(ROWS, LABELS)
    for name in ("a", "b"):
        convert(model, tmp_path / name, input_name="rows", rows=ROWS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (LinearRegression().fit(ROWS, LABELS), "no probabilities"),
        (LogisticRegression().fit(ROWS, LABELS + 3), r"classes are \[3, 4\]"),
        (object(), "expected a tf_keras model or a scikit-learn classifier"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(tmp_path: Path, model: Any, sentence: str) -> None:
    """A regressor, labels with a gap, and anything else are a sentence."""
    with pytest.raises(ConversionError, match=sentence):
        convert(model, tmp_path / "model.onnx", input_name="rows", rows=ROWS)


def test_a_file_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    """A converter's success is no proof; the answers are."""
    model = LogisticRegression().fit(ROWS, LABELS)
    convert(model, tmp_path / "model.onnx", input_name="rows", rows=ROWS)
    expected = model.predict_proba(ROWS)
    expected[3] = expected[3, ::-1]
    with pytest.raises(ConversionError, match="on 1 of 200 rows"):
        check_parity(tmp_path / "model.onnx", "rows", ROWS, expected, tolerance=1e-3, share=1.0)


def write_network(path: Path, *, head: int = 3) -> Path:
    """Write a convolution of one channel, one of eight, and a head: "batch 1 8 8" to "batch class" float32."""

    def weights(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(RNG.normal(0, 0.3, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c2"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3"], ["scores"], name="head"),
        helper.make_node("Softmax", ["scores"], ["probabilities"], name="softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", head])],
        [weights("w1", 8, 1, 3, 3), weights("w2", 16, 8, 3, 3), weights("w3", 16, head)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


IMAGES = RNG.random((128, 1, 8, 8), dtype=np.float32)


def test_static_int8_answers_nearly_the_same_in_fewer_bytes(tmp_path: Path) -> None:
    """Weights become int8 and the probabilities stay within a few hundredths."""
    source, out = write_network(tmp_path / "model.onnx"), tmp_path / "int8.onnx"
    quantize_static(source, out, IMAGES, input_name="image")
    types = {weights.data_type for weights in onnx.load(str(out)).graph.initializer}
    assert TensorProto.INT8 in types
    (before,), (after,) = (open_session(file).run(None, {"image": IMAGES}) for file in (source, out))
    np.testing.assert_allclose(after, before, atol=0.05)


def test_quantizing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """The same file and samples give the same digest."""
    source = write_network(tmp_path / "model.onnx")
    for name in ("a", "b"):
        quantize_static(source, tmp_path / name, IMAGES, input_name="image")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_first_convolution_and_a_small_head_stay_float32(tmp_path: Path) -> None:
    """They cost accuracy and gain no time; a head that is most of the model is quantized."""
    assert list_sensitive(write_network(tmp_path / "small.onnx")) == ["first", "head"]
    assert list_sensitive(write_network(tmp_path / "large.onnx", head=500)) == ["first"]


def test_dynamic_int8_answers_nearly_the_same(tmp_path: Path) -> None:
    """Only weights are stored as int8."""
    source, out = write_network(tmp_path / "model.onnx", head=500), tmp_path / "int8.onnx"
    quantize_dynamic(source, out)
    assert out.stat().st_size < source.stat().st_size
    np.testing.assert_allclose(open_session(out).run(None, {"image": IMAGES})[0].sum(axis=1), 1, atol=1e-4)


def test_calibrating_on_nothing_is_refused(tmp_path: Path) -> None:
    """Ranges of no rows, or of rows that are not finite, are no ranges."""
    source = write_network(tmp_path / "model.onnx")
    with pytest.raises(CalibrationError, match="0 rows"):
        quantize_static(source, tmp_path / "out.onnx", IMAGES[:0], input_name="image")
    with pytest.raises(CalibrationError, match="finite: False"):
        quantize_static(source, tmp_path / "out.onnx", IMAGES * np.float32(np.inf), input_name="image")


def test_variants_are_timed_in_turns(tmp_path: Path) -> None:
    """Every file gets its quantiles, in order, from as many calls as its turns made."""
    source = write_network(tmp_path / "model.onnx")
    timed = measure_interleaved({"a": source, "b": source}, IMAGES[:1], input_name="image", rounds=2, seconds=0.001)
    for own in timed.values():
        assert 0 < own.p50_seconds <= own.p95_seconds <= own.p99_seconds
        assert own.calls >= 100
        assert own.rows == 1
