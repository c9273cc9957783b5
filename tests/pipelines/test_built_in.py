"""The built-in pipelines."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lastgood.pipelines.child import run_step
from lastgood.pipelines.compress import COMPRESS_RESULT, CompressResult
from lastgood.pipelines.data import Data
from lastgood.pipelines.digits import Digits
from lastgood.pipelines.docs import Docs, count_words
from lastgood.pipelines.evaluation import slice_evaluation
from lastgood.pipelines.find import BUILT_IN, Found
from lastgood.pipelines.fraud import Fraud
from lastgood.pipelines.gate import VERDICT, GateVerdict
from lastgood.pipelines.pipeline import Pipeline
from lastgood.pipelines.recommend import Recommend
from lastgood.pipelines.register import register
from lastgood.pipelines.run import Run, create_run
from lastgood.pipelines.train import MODEL
from lastgood.pipelines.tumour import Tumour
from lastgood.registry.registry import Registry
from lastgood.settings import Settings

_loaded: dict[str, Data] = {}


def load(pipeline: type[Pipeline]) -> Data:
    """Load once for every test that only looks."""
    if pipeline.__name__ not in _loaded:
        _loaded[pipeline.__name__] = pipeline().load()
    return _loaded[pipeline.__name__]


@pytest.mark.parametrize("pipeline", [Digits(), Tumour()], ids=["digits", "tumour"])
def test_the_data_is_the_same_each_time_and_enough_to_decide_on(pipeline: Pipeline) -> None:
    """5,000 rows or more in three sets or more, every original in each, and the same fingerprint again."""
    data = pipeline.load()
    assert data.fingerprint() == pipeline.load().fingerprint()
    assert sum(len(y) for _, y in data.evaluation.values()) >= 5000
    assert len(data.evaluation) >= 3
    originals = [set(group.tolist()) for group in data.groups.values()]
    assert all(own == originals[0] for own in originals)


@pytest.mark.parametrize("pipeline", [Fraud(), Recommend(), Docs()], ids=["fraud", "recommend", "docs"])
def test_generated_and_installed_data_is_the_same_each_time(pipeline: Pipeline) -> None:
    """2,500 rows or more in three sets that differ from each other, and the same fingerprint again."""
    data = load(type(pipeline))
    assert data.fingerprint() == pipeline.load().fingerprint()
    assert sum(len(y) for _, y in data.evaluation.values()) >= 2500
    assert 3 == len({x.tobytes() for x, _ in data.evaluation.values()})


def test_no_tested_docstring_is_trained_on() -> None:
    """Whole files are held out, and a text that two files share is in one part only."""
    data = load(Docs)
    trained = {row.tobytes() for row in data.train[0]}
    shared = [row for row in data.evaluation["whole"][0] if row.tobytes() in trained]
    assert len(shared) <= len(data.evaluation["whole"][1]) // 100  # two texts with the same words in another order


def test_a_librarys_name_is_no_hint() -> None:
    """Words that name a library count nothing; what is left is of length 1, and nothing stays nothing."""
    rows = count_words(["numpy.ndarray with scipy and sklearn", "with and", "np.plt"])
    np.testing.assert_array_equal(rows[0] > 0, count_words(["ndarray with and"])[0] > 0)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), [1, 1, 0], atol=1e-6)


def test_no_held_out_digit_is_trained_on() -> None:
    """The clean evaluation images are none of the training or validation images."""
    data = Digits().load()
    held = {row.tobytes() for row in data.evaluation["clean"][0]}
    assert data.validation is not None
    assert held.isdisjoint({row.tobytes() for row in data.train[0]})
    assert held.isdisjoint({row.tobytes() for row in data.validation[0]})


EVERY = [Digits(), Tumour(), Fraud(), Recommend(), Docs()]


@pytest.mark.parametrize("pipeline", EVERY, ids=list(BUILT_IN))
def test_every_slice_has_rows_enough_to_decide(pipeline: Pipeline) -> None:
    """A slice under 100 rows would always be no data."""
    evaluation = slice_evaluation(Found(pipeline, Path(__file__)), load(type(pipeline)))
    assert all(np.count_nonzero(mask) >= 100 for mask in evaluation.slices.values())


def release(project: Settings, recipe: str) -> tuple[Run, str]:
    run = create_run(project, "tumour", seed=5, author="ada", overrides={"recipe": recipe, "epochs": "8"})
    for step in ("train", "compress", "gate"):
        run_step(run, step)
    with Registry.open(project, writer="cli") as registry:
        return run, register(run, registry).digest


@pytest.mark.slow
def test_the_same_seed_and_recipe_give_the_same_digest(project: Settings) -> None:
    """Training twice in fresh processes gives the same ONNX bytes, and the pruned and quantized file too."""
    first, second = release(project, "pruned-static-int8"), release(project, "pruned-static-int8")
    hashes = [hashlib.sha256((run.folder / MODEL).read_bytes()).hexdigest() for run, _ in (first, second)]
    assert hashes[0] == hashes[1]
    assert first[1] == second[1]


@pytest.mark.slow
def test_tumour_is_released_with_every_fitting_recipe_tried(project: Settings) -> None:
    """The default release tries the dense recipes, keeps the floor, passes its gate and registers."""
    run, digest = release(project, "auto")
    result = run.read(COMPRESS_RESULT, CompressResult, step="compress")
    assert all(own.failure is None for own in result.variants)
    assert (result.winner.accuracy or 0) >= result.accuracy_floor
    assert run.read(VERDICT, GateVerdict, step="gate").passed
    assert digest.startswith("sha256:")


@pytest.mark.slow
def test_magnitude_pruning_sets_weights_to_zero_in_a_process_of_its_own(project: Settings) -> None:
    """TensorFlow Model Optimization leaves the asked share of zeros in the file, whose size stays."""
    import onnx
    from onnx import numpy_helper

    run = create_run(project, "tumour", seed=5, author="ada", overrides={"recipe": "magnitude", "epochs": "8"})
    for step in ("train", "compress"):
        run_step(run, step)
    result = run.read(COMPRESS_RESULT, CompressResult, step="compress")
    kernels = [numpy_helper.to_array(own) for own in onnx.load(str(run.folder / result.file)).graph.initializer if len(own.dims) == 2]
    assert result.chosen == "magnitude"
    assert np.mean(np.concatenate([own.ravel() for own in kernels]) == 0) == pytest.approx(0.6, abs=0.05)
