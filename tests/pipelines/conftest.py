"""A project folder with a quick pipeline."""

from pathlib import Path

import pytest

from lastgood.settings import Settings, load_settings

QUICK = """
import numpy as np
from sklearn.linear_model import LogisticRegression
from lastgood.pipelines import Data, Pipeline

class Quick(Pipeline):
    parameters = {"strength": 1.0, "rounds": 100, "balanced": False}
    gate = {"accuracy_floor": 0.8, "slice_floor": 0.5}

    def load(self):
        rng = np.random.default_rng(1)
        x = rng.normal(size=(1600, 5))
        y = (x[:, 0] + 0.5 * x[:, 1] > 0).astype(int)
        noisy = x + rng.normal(0, 0.1, x.shape)
        return Data(train=(x[:400], y[:400]), evaluation={"clean": (x[400:], y[400:]), "noisy": (noisy[400:], y[400:])})

    def build(self, parameters):
        return LogisticRegression(C=parameters["strength"], max_iter=parameters["rounds"])

    def slices(self, x, y):
        return {"left": x[:, 0] < 0, "rare": x[:, 0] > 2.5}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project with one pipeline, quick.py."""
    monkeypatch.delenv("LASTGOOD_HOME", raising=False)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "quick.py").write_text(QUICK, "utf-8")
    (folder / "lastgood.toml").write_text("", "utf-8")
    monkeypatch.chdir(folder)
    return load_settings(folder)
