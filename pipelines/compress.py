"""The second step: try the recipes that fit, measure each file on this host, and choose one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lastgood.compression.choose import Variant, choose
from lastgood.compression.convert import ConversionError, convert
from lastgood.compression.magnitude import load_weights, prune_weights
from lastgood.compression.measure import measure_interleaved
from lastgood.compression.prune import prune_filters
from lastgood.compression.quantize import CalibrationError, quantize_dynamic, quantize_static
from lastgood.compression.recipes import AUTO, FP32, Recipe, RecipeDoesNotFitError, check_fits, read_operators, select_recipes
from lastgood.errors import IntegrityError
from lastgood.pipelines.data import Data
from lastgood.pipelines.errors import DataError
from lastgood.pipelines.evaluation import Evaluation, answer, load_evaluation
from lastgood.pipelines.fit import BATCH_SIZE, EPOCHS
from lastgood.pipelines.kept_weights import WEIGHTS
from lastgood.pipelines.parameters import RECIPE
from lastgood.pipelines.progress import OnProgress, Progress, ignore_progress, reporting
from lastgood.pipelines.run import Run
from lastgood.pipelines.train import EVALUATION, MODEL, RESULT, TrainResult, build_model, fit_model, load_data
from lastgood.pipelines.train import STEP as TRAIN
from lastgood.pipelines.update import fingerprint, goes_on
from lastgood.render import Table
from lastgood.runtime import UnsupportedModelError, open_session

STEP = "compress"
COMPRESS_RESULT = "compress.json"
CALIBRATION_ROWS = 512
_PARITY_ROWS = 256
# What says that a recipe is not for this model; anything else is a bug and ends the step.
_MISFITS = (RecipeDoesNotFitError, ConversionError, CalibrationError, UnsupportedModelError)


@dataclass(frozen=True, slots=True)
class CompressResult:
    """What was tried and what was chosen; compress.json."""

    chosen: str  # recipe
    file: str  # the chosen file, relative to the run folder
    accuracy_floor: float
    variants: list[Variant]

    def find(self, run: Run) -> Path:
        """
        Give the chosen file of the run.

        Raises:
            IntegrityError: It is not in the run's folder.
        """
        path = run.folder / self.file
        if not path.resolve().is_relative_to(run.folder.resolve()) or not path.is_file():
            raise IntegrityError(
                f"{COMPRESS_RESULT} of run {run.id} names {self.file[:80]!r}, which is no file of the run. Compress again."
            )
        return path

    @property
    def winner(self) -> Variant:
        """The variant to release."""
        return next(variant for variant in self.variants if variant.chosen)

    @property
    def baseline(self) -> Variant:
        """The float32 variant that the others are compared with."""
        return next(variant for variant in self.variants if variant.recipe == FP32)


def compress(run: Run, on_progress: OnProgress = ignore_progress) -> CompressResult:
    """
    Compress the run's model.

    Raises:
        StepOrderError: It is not trained.
        DataError: ``load()`` gives other rows than it gave for training.
        RecipeDoesNotFitError: The recipe a person fixed does not fit the model.
    """
    trained = run.read(RESULT, TrainResult, step=TRAIN)
    evaluation = load_evaluation(run.folder / EVALUATION)
    fixed = None if run.facts.parameters[RECIPE] == AUTO else str(run.facts.parameters[RECIPE])
    recipes = select_recipes(run.facts.parameters[RECIPE], run.found.pipeline.recipes)
    made, failures = _Maker(run, trained, on_progress).make_all(recipes)
    if fixed in failures:
        raise RecipeDoesNotFitError(f"The recipe {fixed!r} does not fit this model: {failures[fixed]}.")
    on_progress(Progress(STEP, f"measuring {len(made)} variants", 0.85))
    gate = run.gate_settings
    variants = _measure(recipes, made, failures, evaluation, run.found.pipeline.input_name)
    baseline = next(variant.accuracy for variant in variants if variant.recipe == FP32) or 0.0
    floor = max(baseline - gate.max_loss_vs_fp32, gate.accuracy_floor or 0.0)
    chosen = choose(variants, accuracy_floor=floor, agreement_floor=gate.parity_floor, fixed=fixed)
    winner = next(variant.recipe for variant in chosen if variant.chosen)
    result = CompressResult(winner, str(made[winner].relative_to(run.folder)), floor, list(chosen))
    run.write(COMPRESS_RESULT, result)
    on_progress(Progress(STEP, f"chose {winner}", 1.0))
    return result


def tabulate(result: CompressResult) -> Table:
    """Give the variants as a table, the chosen one first, then by p95."""
    order = sorted(result.variants, key=lambda own: (not own.chosen, own.p95_seconds is None, own.p95_seconds or 0.0))
    rows = [
        (
            own.recipe,
            "-" if own.bytes is None else f"{own.bytes / 1024:.1f}",
            "-" if own.accuracy is None else f"{own.accuracy:.2%}",
            "-" if own.p50_seconds is None else f"{own.p50_seconds * 1e6:.0f}",
            "-" if own.p95_seconds is None else f"{own.p95_seconds * 1e6:.0f}",
            own.verdict,
        )
        for own in order
    ]
    return Table("Variants", ("recipe", "KiB", "accuracy", "p50 µs", "p95 µs", "verdict"), tuple(rows))


class _Maker:
    """Makes the files of the recipes; a pruned model is trained once however many recipes quantize it."""

    def __init__(self, run: Run, trained: TrainResult, on_progress: OnProgress) -> None:
        self._run = run
        self._trained = trained
        self._on_progress = on_progress
        self._keras = trained.kind == "tf_keras"
        self._data: Data | None = None
        self._pruned: dict[tuple[float | None, float | None], Path] = {(None, None): run.folder / MODEL}
        self._folder = run.folder / "compress"
        self._folder.mkdir(exist_ok=True)

    def make_all(self, recipes: tuple[Recipe, ...]) -> tuple[dict[str, Path], dict[str, str]]:
        """Give the files by recipe, and the reasons of those that have none."""
        operators = read_operators(self._run.folder / MODEL)
        made: dict[str, Path] = {}
        failures: dict[str, str] = {}
        for index, recipe in enumerate(recipes):
            with reporting(self._on_progress, STEP, recipe.name, 0.8 * index / len(recipes), 0.8 * (index + 1) / len(recipes)):
                try:
                    check_fits(recipe, keras=self._keras, operators=operators)
                    made[recipe.name] = self._make(recipe)
                except _MISFITS as exc:
                    failures[recipe.name] = str(exc).rstrip(".")
        return made, failures

    def _make(self, recipe: Recipe) -> Path:
        source = self._prune(recipe)
        if recipe.quantize is None:
            return source
        out = self._folder / f"{recipe.name}.onnx"
        if recipe.quantize == "dynamic":
            quantize_dynamic(source, out)
        else:
            rows = self._load().train[0]
            # Spread over all rows: they may be sorted, by class or by how they were changed.
            picked = rows[np.linspace(0, len(rows) - 1, min(CALIBRATION_ROWS, len(rows))).astype(np.int64)]
            quantize_static(source, out, picked, input_name=self._run.found.pipeline.input_name)
        open_session(out)
        return out

    def _prune(self, recipe: Recipe) -> Path:
        key = (recipe.keep, recipe.sparsity)
        if key not in self._pruned:
            model = build_model(self._run, self._trained.parameters)
            load_weights(model, self._run.folder / WEIGHTS)
            data, parameters = self._load(), self._trained.parameters
            if recipe.sparsity is not None:
                epochs, batch_size = int(parameters.get("epochs", EPOCHS)), int(parameters.get("batch_size", BATCH_SIZE))
                x, y = data.train
                prune_weights(model, x, y, sparsity=recipe.sparsity, epochs=epochs, batch_size=batch_size, seed=self._run.facts.seed)
            elif recipe.keep is not None:
                model = prune_filters(model, keep=recipe.keep)
                fit_model(self._run, model, data, fine_tuning(parameters))
            out = self._folder / f"{'pruned' if recipe.keep is not None else 'magnitude'}.onnx"
            convert(model, out, input_name=self._run.found.pipeline.input_name, rows=data.train[0][:_PARITY_ROWS])
            self._pruned[key] = out
        return self._pruned[key]

    def _load(self) -> Data:
        if self._data is None:
            data = load_data(self._run)
            if (found := fingerprint(self._run, data)) != self._trained.data:
                raise DataError(
                    f"load() of {self._run.found.file.name} gives other rows now ({found[:19]}…) than for training "
                    f"({self._trained.data[:19]}…): seed what it draws, or train again."
                )
            # What was cut needs more than the few rows of an incremental update to find back.
            self._data = load_data(self._run, everything=True) if goes_on(self._run) else data
        return self._data


def fine_tuning(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """
    Give the parameters a pruned model is fitted on with: the trained ones, for twice as many epochs.

    What is left is a quarter of the arithmetic, so that it still takes less time than the first fit.
    """
    return {**parameters, "epochs": 2 * int(parameters.get("epochs", EPOCHS))}


def _measure(
    recipes: tuple[Recipe, ...], made: Mapping[str, Path], failures: Mapping[str, str], evaluation: Evaluation, input_name: str
) -> list[Variant]:
    labels = {name: answer(open_session(file), evaluation) for name, file in made.items()}
    latency = measure_interleaved(made, evaluation.row, input_name=input_name)
    return [
        Variant(
            recipe.name,
            bytes=made[recipe.name].stat().st_size,
            accuracy=float((labels[recipe.name] == evaluation.y).mean()),
            agreement=float((labels[recipe.name] == labels[FP32]).mean()),
            p50_seconds=latency[recipe.name].p50_seconds,
            p95_seconds=latency[recipe.name].p95_seconds,
        )
        if recipe.name in made
        else Variant(recipe.name, failure=failures[recipe.name])
        for recipe in recipes
    ]
