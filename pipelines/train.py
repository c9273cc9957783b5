"""The first step: load, fit, and write the float32 ONNX file and the evaluation sets into the run folder."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lastgood.compression.convert import convert, kind_of
from lastgood.compression.tensorflow_settings import fix_random, fix_tensorflow
from lastgood.pipelines.calling import calling
from lastgood.pipelines.data import Data
from lastgood.pipelines.errors import PipelineError
from lastgood.pipelines.evaluation import answer, save_evaluation, slice_evaluation
from lastgood.pipelines.find import Found
from lastgood.pipelines.kept_weights import WEIGHTS
from lastgood.pipelines.progress import OnProgress, Progress, ignore_progress, reporting
from lastgood.pipelines.run import Run
from lastgood.pipelines.update import PARENT, apply_update, fingerprint, goes_on, read_taken, take_update
from lastgood.pipelines.warm_start import keep_state, restore_state
from lastgood.runtime import open_session

STEP = "train"
RESULT = "train.json"
FINGERPRINT = "data.json"
MODEL, EVALUATION = "train/model.onnx", "evaluation"
_PARITY_ROWS = 256


@dataclass(frozen=True, slots=True)
class Searched:
    """One set of parameters that was tried, and its validation accuracy, 0 to 1."""

    parameters: dict[str, Any]
    accuracy: float
    chosen: bool


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What training gave; train.json."""

    kind: str
    parameters: dict[str, Any]
    data: str  # fingerprint
    rows: int
    accuracy: float  # of all evaluation rows, of the float32 ONNX file
    bytes: int
    searched: list[Searched] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def train(run: Run, on_progress: OnProgress = ignore_progress) -> TrainResult:
    """
    Train the run's model.

    Raises:
        PipelineError: The user's code failed, with its line.
        DataError: ``load()`` gave something that cannot be trained on.
        ConversionError: The fitted model cannot become an ONNX file that answers as it does.
    """
    data = load_data(run, on_progress)
    evaluation = slice_evaluation(run.found, data)
    save_evaluation(evaluation, run.folder / EVALUATION)
    model, parameters, searched = _go_on(run, data, on_progress) if goes_on(run) else _search(run, data, on_progress)
    kind = kind_of(model)
    on_progress(Progress(STEP, "converting to ONNX", 0.92))
    file = run.folder / MODEL
    file.parent.mkdir(exist_ok=True)
    convert(model, file, input_name=run.found.pipeline.input_name, rows=next(iter(data.evaluation.values()))[0][:_PARITY_ROWS])
    keep_state(model, run.folder / WEIGHTS)
    labels = answer(open_session(file), evaluation)
    result = TrainResult(
        kind=kind,
        parameters=parameters,
        data=fingerprint(run, data),
        rows=len(data.train[1]),
        accuracy=float((labels == evaluation.y).mean()),
        bytes=file.stat().st_size,
        searched=searched,
        warnings=data.warnings(),
    )
    run.write(RESULT, result)
    on_progress(Progress(STEP, f"{result.accuracy:.2%} of {len(evaluation.y)} rows right", 1.0))
    return result


def load_data(run: Run, on_progress: OnProgress = ignore_progress, *, everything: bool = False) -> Data:
    """
    Give what the run trains on and is tested on: what the pipeline loads, and for an update what the log has.

    With ``everything`` all rows, also where an incremental update trains on a part of them.
    """
    data = apply_update(run, _load(run, on_progress), everything=everything)
    return data.hold_out_validation() if run.found.pipeline.search and not goes_on(run) else data


def _load(run: Run, on_progress: OnProgress) -> Data:
    on_progress(Progress(STEP, "loading data", 0.0))
    return call_load(run.found, run.facts.seed)


def call_load(found: Found, seed: int) -> Data:
    """
    Call a pipeline's ``load()`` with every global generator seeded.

    Raises:
        PipelineError: It failed, with its line, or gave no `Data`.
        DataError: It gave something that cannot be trained on.
    """
    fix_random(seed)
    with calling(found.file, "load()"):
        data = found.pipeline.load()
    if not isinstance(data, Data):
        raise PipelineError(f"load() of {found.file.name} gave {type(data).__name__}; expected Data(train=(x, y), evaluation={{...}}).")
    return data


def take_fingerprint(run: Run, on_progress: OnProgress = ignore_progress) -> None:
    """Load the run's data only to write its fingerprint, data.json: what a cache needs to know before training."""
    run.write(FINGERPRINT, {"data": fingerprint(run, load_data(run, on_progress))})


def take_rows_and_fingerprint(run: Run, on_progress: OnProgress = ignore_progress) -> None:
    """
    Take the rows of the prediction log that the run's update trains on; then as `take_fingerprint`.

    Raises:
        TooFewRowsError: An incremental update has not enough new ones.
    """
    take_update(run, _load(run, on_progress))
    take_fingerprint(run, on_progress)


def build_model(run: Run, parameters: Mapping[str, Any]) -> Any:
    """Call the pipeline's ``build()`` with TensorFlow, where it is used, in a state that repeats."""
    ready = "tf_keras" in sys.modules  # a scikit-learn pipeline must not wait for TensorFlow's import
    model = _build_once(run, parameters, keras=ready)
    if kind_of(model) == "tf_keras" and not ready:
        # build() itself imported it and drew the first weights before the seed was set: again, with the seed.
        model = _build_once(run, parameters, keras=True)
    _seed_estimator(model, run.facts.seed)
    return model


def _build_once(run: Run, parameters: Mapping[str, Any], *, keras: bool) -> Any:
    fix_random(run.facts.seed)
    if keras:
        fix_tensorflow(run.facts.seed)
    with calling(run.found.file, "build()"):
        return run.found.pipeline.build(parameters)


def fit_model(run: Run, model: Any, data: Data, parameters: Mapping[str, Any]) -> None:
    """Call the pipeline's ``fit()``."""
    with calling(run.found.file, "fit()"):
        run.found.pipeline.fit(model, data, parameters)


def _go_on(run: Run, data: Data, on_progress: OnProgress) -> tuple[Any, dict[str, Any], list[Searched]]:
    """Fit what has the live version's weights to the run's rows; nothing is searched, the structure is the live version's."""
    update = read_taken(run)
    assert update is not None  # noqa: S101 - the caller asked
    parameters = run.facts.parameters
    model = build_model(run, parameters)
    restore_state(model, run.folder / PARENT, data.train)
    with reporting(on_progress, STEP, f"fitting {len(data.train[1])} rows further", 0.05, 0.9), calling(run.found.file, "fit_more()"):
        run.found.pipeline.fit_more(model, data, {**parameters, "epochs": update.asked.epochs})
    return model, parameters, []


def _search(run: Run, data: Data, on_progress: OnProgress) -> tuple[Any, dict[str, Any], list[Searched]]:
    """Fit each candidate; keep the first, the smallest, within the allowed points of the best."""
    pipeline, base = run.found.pipeline, run.facts.parameters
    # What a person set on the command line is not searched.
    candidates = [dict(own) for own in pipeline.search if not run.facts.overrides.keys() & own.keys()] or [{}]
    tried: list[tuple[Any, dict[str, Any], float]] = []
    for index, own in enumerate(candidates):
        parameters = {**base, **own}
        model = build_model(run, parameters)
        what = ", ".join(f"{name} {value}" for name, value in own.items())
        with reporting(
            on_progress, STEP, f"fitting {what}".strip(), 0.05 + 0.85 * index / len(candidates), 0.05 + 0.85 * (index + 1) / len(candidates)
        ):
            fit_model(run, model, data, parameters)
        tried.append((model, parameters, 0.0 if len(candidates) == 1 else _validate(model, data)))
    enough = max(accuracy for _, _, accuracy in tried) - pipeline.search_points / 100
    chosen = next(index for index, (_, _, accuracy) in enumerate(tried) if accuracy >= enough)
    searched = [
        Searched(own, accuracy, index == chosen) for index, (own, (_, _, accuracy)) in enumerate(zip(candidates, tried, strict=True))
    ]
    return tried[chosen][0], tried[chosen][1], searched if len(candidates) > 1 else []


def _validate(model: Any, data: Data) -> float:
    if data.validation is None:  # hold_out_validation gave one wherever there is a search
        raise PipelineError("There is a search but no validation set; expected Data.validation.")
    x, y = data.validation
    labels = model.predict(x, verbose=0, batch_size=256).argmax(axis=1) if kind_of(model) == "tf_keras" else model.predict(x)
    return float((np.asarray(labels) == y).mean())


def _seed_estimator(model: Any, seed: int) -> None:
    if kind_of(model) == "sklearn":
        # A forest without random_state would be another one on every run; what the user set stays.
        unset = [name for name, value in model.get_params().items() if name.rpartition("__")[2] == "random_state" and value is None]
        model.set_params(**dict.fromkeys(unset, seed % 2**32))
