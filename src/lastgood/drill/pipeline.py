"""The drill's own small pipeline: handwritten digits told apart by logistic regression, trained in a second."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from lastgood.pipelines import Data, Pipeline


class Drill(Pipeline):
    """scikit-learn's bundled 8x8 images, as they are and with noise."""

    parameters: ClassVar[Mapping[str, Any]] = {"inverse_regularization": 1.0}
    gate: ClassVar[Mapping[str, Any]] = {"accuracy_floor": 0.85, "max_loss_vs_live": 0.2}
    # Quick steps and a short soak: what is timed is the way back, not the way there.
    rollout: ClassVar[Mapping[str, Any]] = {
        "steps": [0.1],
        "step_requests": 100_000,
        "soak_requests": 20,
        "soak_seconds": 0.2,
    }

    def load(self) -> Data:
        """Give 1,797 images, "row 64" float32 in [0, 1], a third of them held out."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        x, y = (images / 16).astype(np.float32), labels.astype(np.int64)
        order = np.random.default_rng(0).permutation(len(y))
        train, test = order[600:], order[:600]
        noisy = np.clip(x[test] + np.random.default_rng(1).normal(0, 0.1, x[test].shape), 0, 1).astype(np.float32)
        return Data(train=(x[train], y[train]), evaluation={"clean": (x[test], y[test]), "noisy": (noisy, y[test])})

    def build(self, parameters: Mapping[str, Any]) -> Any:
        """Give a logistic regression."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=parameters["inverse_regularization"], max_iter=200)
