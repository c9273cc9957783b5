"""Breast tumours from 30 measurements of cell nuclei: a small dense network, tested on clean, noisy and miscalibrated rows."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from lastgood.pipelines.data import Array, Data
from lastgood.pipelines.gate_settings import GateSettings
from lastgood.pipelines.pipeline import Pipeline

_EVALUATION = 190  # of 569 rows
_COPIES = 14  # of each held-out row in each of the changed sets: 190 + 14 * 190 + 14 * 190 rows to test on
_SPLIT_SEED = 20
_MEAN_AREA = 3  # column of the mean area of the nuclei


class Tumour(Pipeline):
    """Whether a tumour is malignant (0) or benign (1)."""

    parameters: ClassVar[Mapping[str, Any]] = {"width": 64, "epochs": 40, "batch_size": 32, "learning_rate": 1e-3}
    gate = GateSettings(accuracy_floor=0.92, set_floors={"clean": 0.93}, slice_floor=0.8)
    input_name = "measurements"
    # Short enough to watch: an example on a laptop has nobody else's traffic to wait for.
    rollout: ClassVar[Mapping[str, Any]] = {"step_requests": 100, "step_seconds": 2.0, "soak_requests": 300, "soak_seconds": 10.0}

    def load(self) -> Data:
        """Standardise by the training rows, and change copies of the held-out ones."""
        from sklearn.datasets import load_breast_cancer

        x, y = load_breast_cancer(return_X_y=True)
        rng = np.random.default_rng(_SPLIT_SEED)
        order = rng.permutation(len(y))
        held, rest = order[:_EVALUATION], order[_EVALUATION:]
        mean, deviation = x[rest].mean(axis=0), x[rest].std(axis=0)
        copied = np.tile(held, _COPIES)
        raw = x[copied]
        measured_again = raw * rng.normal(1, 0.03, raw.shape)  # each value read anew, 3 % off
        other_instrument = raw * np.repeat(rng.normal(1, 0.03, (_COPIES, raw.shape[1])), len(held), axis=0)  # each column off alike
        return Data(
            train=((x[rest] - mean) / deviation, y[rest]),
            evaluation={
                "clean": ((x[held] - mean) / deviation, y[held]),
                "noisy": ((measured_again - mean) / deviation, y[copied]),
                "shifted": ((other_instrument - mean) / deviation, y[copied]),
            },
            groups={"clean": held, "noisy": copied, "shifted": copied},
        )

    def build(self, parameters: Mapping[str, Any]) -> Any:
        """Two hidden layers."""
        from tf_keras import Sequential, layers

        width = int(parameters["width"])
        return Sequential(
            [
                layers.Input((30,), name=self.input_name),
                layers.Dense(width, activation="relu"),
                layers.Dense(width // 2, activation="relu"),
                layers.Dense(2, activation="softmax"),
            ]
        )

    def slices(self, x: Array, y: Array) -> Mapping[str, Array]:
        """Small and large nuclei, and each diagnosis."""
        area = x[:, _MEAN_AREA]
        return {"small nuclei": area <= np.median(area), "large nuclei": area > np.median(area), "malignant": y == 0, "benign": y == 1}
