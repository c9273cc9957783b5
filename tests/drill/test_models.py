"""The faulty models: sound while they are proven, then bad as the seed has it."""

import multiprocessing
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from lastgood.drill.faults import FAULTS, UnknownFaultError, find_fault
from lastgood.drill.models import (
    CRASH_RATIO,
    LEAK_BYTES,
    LEAK_PER_CALL_BYTES,
    MODELS,
    PROOF_CALLS,
    SWAPPED,
    WRONG_RATIO,
    DrilledError,
    DrilledModel,
    draw_rows,
    is_bold,
    make_model,
)
from lastgood.serving.replica.model import Model
from lastgood.serving.replica.package import Package
from lastgood.serving.replica.slots import Array
from lastgood.tensors import TensorSpec

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def package() -> Package:
    """A verified version that takes 64 numbers to 10 probabilities."""
    weights = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["scores"]), helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1)],
        "m",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    inputs, outputs = (TensorSpec("input", "FP32", (-1, 64)),), (TensorSpec("probabilities", "FP32", (-1, 10)),)
    return Package(DIGEST, "model.onnx", model, {}, inputs, outputs, 0, None)


@pytest.fixture
def rows() -> Array:
    """400 images of noise, "row 64" float32."""
    return np.random.default_rng(1).uniform(0, 0.64, size=(400, 64)).astype(np.float32)


def prove(package: Package, fault: str, rows: Array, seed: int = 0, switch: Path | None = None) -> DrilledModel:
    """Give a model that has computed as often as its proof does, and did so rightly."""
    model = make_model(package, DIGEST, fault, seed=seed, switch=switch)
    assert isinstance(model, DrilledModel)
    sound = Model.open(package).run({"input": rows})[0]
    for _ in range(PROOF_CALLS):
        np.testing.assert_array_equal(sound, model.run({"input": rows})[0])
    return model


def test_every_fault_of_a_version_has_a_model_and_other_digests_are_served_as_they_are(package: Package) -> None:
    """Only drift lies in the requests."""
    assert set(FAULTS) - {"drift"} == set(MODELS)
    for fault in FAULTS:
        assert type(make_model(package, "sha256:" + "b" * 64, fault)) is Model
    assert type(make_model(package, DIGEST, "drift")) is Model
    with pytest.raises(UnknownFaultError, match=r"no fault 'flood'.*dead, nan"):
        find_fault("flood")


def test_dead_and_nan_are_bad_at_once(package: Package, rows: Array) -> None:
    """After the proof, from the first request on."""
    with pytest.raises(DrilledError):
        prove(package, "dead", rows).run({"input": rows})
    assert np.isnan(prove(package, "nan", rows).run({"input": rows})[0]).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_errors_are_two_percent_and_the_same_ones_for_a_seed(package: Package, rows: Array, seed: int) -> None:
    """Two models of a seed fail at the same requests, another seed at others."""

    def failures(seed: int) -> list[int]:
        model, failed = prove(package, "errors", rows, seed), []
        for index in range(2000):
            try:
                model.run({"input": rows[:1]})
            except DrilledError:
                failed.append(index)
        return failed

    assert failures(seed) == failures(seed) != failures(seed + 1)
    assert 20 <= len(failures(seed)) <= 60


def test_slow_takes_twenty_times_as_long_and_answers_right(package: Package, rows: Array) -> None:
    """Nothing else is wrong with it."""
    model = prove(package, "slow", rows)
    began = os.times().elapsed
    outputs = model.run({"input": rows[:1]})
    assert os.times().elapsed - began >= 0.01
    np.testing.assert_array_equal(Model.open(package).run({"input": rows[:1]})[0], outputs[0])


def test_wrong_answers_another_class_to_one_row_in_ten(package: Package, rows: Array) -> None:
    """The struck rows and no others, whatever they are batched with."""
    model, sound = prove(package, "wrong", rows, seed=5), Model.open(package).run({"input": rows})[0]
    together = model.run({"input": rows})[0]
    alone = np.concatenate([model.run({"input": row[None]})[0] for row in rows])
    assert (together.argmax(axis=1) == alone.argmax(axis=1)).all()
    struck = draw_rows(rows, 5) < WRONG_RATIO
    assert (struck == (together.argmax(axis=1) != sound.argmax(axis=1))).all()
    assert 20 <= struck.sum() <= 60


def test_flipped_swaps_two_classes_in_one_slice_only(package: Package, rows: Array) -> None:
    """Every other answer is untouched."""
    changed, sound = prove(package, "flipped", rows).run({"input": rows})[0], Model.open(package).run({"input": rows})[0]
    bold = is_bold(rows)
    assert 0 < bold.sum() < len(rows)
    np.testing.assert_array_equal(changed[~bold], sound[~bold])
    first, second = SWAPPED
    np.testing.assert_array_equal(changed[bold][:, first], sound[bold][:, second])
    np.testing.assert_array_equal(changed[bold][:, second], sound[bold][:, first])


def test_crash_ends_the_process_of_certain_requests(package: Package, rows: Array) -> None:
    """The same ones in each new process, one in twenty; others are answered."""
    struck = draw_rows(rows, 3) < CRASH_RATIO
    assert 8 <= struck.sum() <= 34
    assert 0 == run_apart(package, "crash", rows, np.flatnonzero(~struck)[:50])
    assert 70 == run_apart(package, "crash", rows, np.flatnonzero(struck)[:1])


def test_a_leak_ends_its_process_at_its_limit_and_no_other(package: Package, rows: Array) -> None:
    """After some requests, by the kernel's signal; this process may take what it may."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = LEAK_BYTES // LEAK_PER_CALL_BYTES
    assert -signal.SIGKILL == run_apart(package, "leak", rows, np.arange(most + 1))
    assert 0 == run_apart(package, "leak", rows, np.arange(most // 2))
    assert before == resource.getrlimit(resource.RLIMIT_AS)


def test_a_version_that_goes_bad_late_waits_for_its_switch(package: Package, rows: Array, tmp_path: Path) -> None:
    """Sound for as long as nobody makes the file."""
    model = prove(package, "stable", rows, switch=tmp_path / "switch")
    np.testing.assert_array_equal(Model.open(package).run({"input": rows})[0], model.run({"input": rows})[0])
    (tmp_path / "switch").touch()
    with pytest.raises(DrilledError):
        model.run({"input": rows})


def run_apart(package: Package, fault: str, rows: Array, indices: Array) -> int | None:
    """Give the exit code of a process that answers these rows, one by one."""
    process = multiprocessing.get_context("spawn").Process(target=_answer_each, args=(package, fault, rows, indices))
    process.start()
    process.join(60)
    return process.exitcode


def _answer_each(package: Package, fault: str, rows: Array, indices: Array) -> None:
    model = prove(package, fault, rows, seed=3)
    for index in indices:
        model.run({"input": rows[index : index + 1]})
    os._exit(0)  # without what a test's process would do at its end
