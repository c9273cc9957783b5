"""What is kept of an estimator, and another one that goes on from it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from lastgood.pipelines.data import Labelled
from lastgood.pipelines.warm_start import CannotContinueError, continue_fit, keep_state, restore_state


def build(name: str) -> Any:
    """Give an estimator that is not fitted."""
    sgd = SGDClassifier(loss="log_loss", random_state=1)
    return {
        "sgd": sgd,
        "logistic": LogisticRegression(max_iter=300),
        "mlp": MLPClassifier((20,), random_state=1, tol=1e-2),
        "scaled": make_pipeline(StandardScaler(), sgd),
        "squeezed": make_pipeline(MinMaxScaler(), StandardScaler(), MLPClassifier((8,), random_state=1, tol=1e-2)),
    }[name]


@pytest.fixture(scope="module")
def rows() -> Labelled:
    """Handwritten digits, "row 64" float32."""
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y.astype(np.int64)


@pytest.mark.parametrize("name", ["sgd", "logistic", "mlp", "scaled", "squeezed"])
def test_a_restored_estimator_answers_as_the_one_that_was_kept_and_learns_on(tmp_path: Path, rows: Labelled, name: str) -> None:
    """Without epochs it is the same, bit for bit; with some it gets better at what it is shown."""
    x, y = rows
    old = build(name).fit(x[:300], y[:300])
    assert keep_state(old, tmp_path / "state.npz")
    with np.load(tmp_path / "state.npz", allow_pickle=False) as saved:
        assert all(saved[key].dtype.kind in "fiu" for key in saved.files)
    new = build(name)
    restore_state(new, tmp_path / "state.npz", (x, y))
    continue_fit(new, (x[300:], y[300:]), epochs=0)
    np.testing.assert_array_equal(old.predict_proba(x), new.predict_proba(x))
    before = old.score(x[300:], y[300:])
    continue_fit(new, (x[300:], y[300:]), epochs=20)
    assert new.score(x[300:], y[300:]) > before
    assert before == old.score(x[300:], y[300:])


def test_the_same_rows_and_seed_give_the_same_weights(tmp_path: Path, rows: Labelled) -> None:
    """Twice."""
    x, y = rows
    keep_state(build("mlp").fit(x[:300], y[:300]), tmp_path / "state.npz")
    answers = []
    for _ in range(2):
        new = build("mlp")
        restore_state(new, tmp_path / "state.npz", (x, y))
        continue_fit(new, (x[300:600], y[300:600]), epochs=3)
        answers.append(new.predict_proba(x))
    np.testing.assert_array_equal(*answers)


def test_what_cannot_be_continued_is_refused(tmp_path: Path, rows: Labelled) -> None:
    """By name, with what can; or with what is in the way."""
    x, y = rows = (rows[0][:300], rows[1][:300])
    assert not keep_state(RandomForestClassifier(3).fit(x, y), tmp_path / "state.npz")
    assert not keep_state(MLPClassifier(solver="lbfgs", max_iter=1000).fit(x, y), tmp_path / "state.npz")
    keep_state(build("sgd").fit(x, y), tmp_path / "state.npz")
    with pytest.raises(CannotContinueError, match=r"RandomForestClassifier cannot be trained further.*LogisticRegression"):
        restore_state(RandomForestClassifier(3), tmp_path / "state.npz", rows)
    with pytest.raises(CannotContinueError, match="average, early_stopping"):
        restore_state(SGDClassifier(average=True), tmp_path / "state.npz", rows)
    with pytest.raises(CannotContinueError, match="it takes 64 features, the rows have 63"):
        restore_state(build("sgd"), tmp_path / "state.npz", (x[:, 1:], y))
    logistic = build("logistic").fit(x, y)
    keep_state(logistic, tmp_path / "logistic.npz")
    restore_state(logistic, tmp_path / "logistic.npz", rows)
    with pytest.raises(CannotContinueError, match=r"must see every class, and no row is of \[7\]: raise replay_ratio"):
        continue_fit(logistic, (x[y != 7], y[y != 7]), epochs=1)
