"""A project whose model can be continued, a live version, and a prediction log with labels."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from lastgood.monitoring.predictions.columns import log_folder
from lastgood.monitoring.predictions.write import PredictionLog
from lastgood.pipelines.compress import compress
from lastgood.pipelines.data import Array
from lastgood.pipelines.gate import gate
from lastgood.pipelines.register import register
from lastgood.pipelines.run import Run, create_run
from lastgood.pipelines.train import take_rows_and_fingerprint, train
from lastgood.pipelines.update import begin_update
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.settings import Settings, load_settings

MODEL = "moving"
# Two classes by the sign of the first feature. What production shows later lies elsewhere: by the sign of the third.
PIPELINE = """
import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.ensemble import RandomForestClassifier
from lastgood.pipelines import Data, Pipeline

class Moving(Pipeline):
    parameters = {"kind": "sgd", "hidden": 12, "recipe_seed": 0}
    gate = {"accuracy_floor": 0.5, "slice_floor": 0.2, "max_loss_vs_live": 0.6}
    input_name = "features"
    rollout = {"steps": [0.5], "step_requests": 20, "step_seconds": 0.1, "soak_requests": 20, "soak_seconds": 0.1}

    def load(self):
        rng = np.random.default_rng(1)
        x = rng.normal(size=(1200, 6)).astype(np.float32)
        y = (x[:, 0] > 0).astype(int)
        x[:, 2] = x[:, 4] = 0
        return Data(
            train=(x[:600], y[:600]),
            evaluation={"clean": (x[600:900], y[600:900]), "noisy": (x[900:] + 0.01, y[900:])},
        )

    def build(self, parameters):
        if parameters["kind"] == "mlp":
            return MLPClassifier((int(parameters["hidden"]),), max_iter=400, tol=1e-3, learning_rate_init=0.01)
        if parameters["kind"] == "forest":
            return RandomForestClassifier(5)
        return SGDClassifier(loss="log_loss")
"""
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def make_project(folder: Path, *, kind: str = "sgd", update: str = "") -> Settings:
    """Write the project; ``update`` is the body of its update table."""
    folder.mkdir(exist_ok=True)
    (folder / "moving.py").write_text(PIPELINE.replace('"kind": "sgd"', f'"kind": "{kind}"'), "utf-8")
    (folder / "lastgood.toml").write_text(f"[models.{MODEL}.update]\n{update}\n", "utf-8")
    return load_settings(folder)


def finish(run: Run, *, live: bool = True, trained: bool = False) -> Version:
    """Take a run through every step that is left, and let its version be live."""
    if not trained:
        train(run)
    compress(run)
    gate(run, live=None)
    with Registry.open(run.settings, writer="cli") as registry:
        version = register(run, registry)
        if live:
            with registry.transaction() as transaction:
                transaction.move_alias(run.model, "live", version.digest, actor="test", why="a test")
    return version


def release(settings: Settings, *, seed: int = 1, **overrides: str) -> Version:
    """Release a first version, by hand."""
    return finish(create_run(settings, MODEL, overrides={"recipe": "fp32", **overrides}, seed=seed, author="ada"))


def begin(settings: Settings, **options: Any) -> Run:
    """Begin an update and take its rows; it is trained by `finish`."""
    run = begin_update(settings, MODEL, **{"policy": "incremental", "seed": 5, **options})
    take_rows_and_fingerprint(run)
    return run


def new_rows(count: int, *, seed: int = 2) -> tuple[Array, Array]:
    """Give rows where a feature decides that the first version never saw move: x "row 6" float32, y "row" int64."""
    x = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    x[:, 0], x[:, 4] = 0, 3
    return x, (x[:, 2] > 0).astype(np.int64)


def write_log(
    settings: Settings,
    x: Array,
    y: Array,
    *,
    at: datetime = BEGAN,
    label_after: timedelta = timedelta(seconds=1),
    traffic: str = "production",
    name: str = "row",
    input_name: str = "features",
    answered: slice = slice(None),
    labelled: slice = slice(None),
) -> None:
    """Write answered requests and their labels, a second apart; the slices say which of them reach the disk."""
    log = PredictionLog(log_folder(settings.home, MODEL), max_bytes=1 << 30, max_seconds=1e9)
    times = [at + timedelta(seconds=index) for index in range(len(y))]
    ids = [f"{name}-{at.timestamp()}-{index}" for index in range(len(y))]
    columns: dict[str, list[Any]] = {
        "time": times,
        "id": ids,
        "version": [1] * len(y),
        "role": ["live"] * len(y),
        "traffic": [traffic] * len(y),
        "slice": [""] * len(y),
        "outcome": ["ok"] * len(y),
        "answer": [0] * len(y),
        "confidence": [0.9] * len(y),
    }
    kept = {column: values[answered] for column, values in columns.items()}
    log.add(kept, {input_name: x[answered]}, {"probabilities": np.zeros((len(x[answered]), 2), np.float32)})
    log.add_labels([time + label_after for time in times[labelled]], ids[labelled], y[labelled].tolist())
    log.flush(everything=True)
