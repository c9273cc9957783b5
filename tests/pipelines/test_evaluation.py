"""Evaluation sets on disk."""

from pathlib import Path

import numpy as np
import pytest

from lastgood.pipelines.data import Array, Data
from lastgood.pipelines.errors import DataError, StepOrderError
from lastgood.pipelines.evaluation import EvaluationSet, load_evaluation, save_evaluation, slice_evaluation, split_by_set
from lastgood.pipelines.find import Found
from lastgood.pipelines.pipeline import Pipeline

X, Y = np.arange(12.0, dtype=np.float32).reshape(6, 2), np.array([0, 1, 0, 1, 1, 1])


class Sliced(Pipeline):
    def slices(self, x: Array, y: Array) -> dict[str, Array]:
        return {"ones/upper": y == 1, "first": x[:, 0] < 3}


def test_sets_and_slices_come_back_whatever_their_names(tmp_path: Path) -> None:
    """Names may hold slashes and spaces: they are never file names."""
    data = Data(train=(X, Y), evaluation={"a/b": (X, Y), "": (X[:3], Y[:3])})
    made = slice_evaluation(Found(Sliced(), Path(__file__)), data)
    save_evaluation(made, tmp_path / "evaluation")
    again = load_evaluation(tmp_path / "evaluation")
    assert list(again.sets) == ["a/b", ""]
    for name, own in made.sets.items():
        for part in ("x", "y", "groups"):
            np.testing.assert_array_equal(getattr(again.sets[name], part), getattr(own, part))
    assert {name: int(mask.sum()) for name, mask in again.slices.items()} == {"ones/upper": 5, "first": 4}


def test_pooled_values_split_back_into_their_sets() -> None:
    """Joined in order, split in the same order."""
    data = Data(train=(X, Y), evaluation={"a": (X, Y), "b": (X[:2], Y[:2])})
    made = slice_evaluation(Found(Sliced(), Path(__file__)), data)
    parts = split_by_set(made, made.y)
    assert {name: part.tolist() for name, part in parts.items()} == {"a": Y.tolist(), "b": Y[:2].tolist()}
    assert isinstance(made.sets["a"], EvaluationSet)


def test_a_slice_that_is_no_mask_is_refused() -> None:
    """Indices instead of true and false would select other rows than meant."""

    class Wrong(Pipeline):
        def slices(self, x: Array, y: Array) -> dict[str, Array]:
            del x
            return {"ones": np.flatnonzero(y == 1)}

    with pytest.raises(DataError, match="'ones' as int64"):
        slice_evaluation(Found(Wrong(), Path(__file__)), Data(train=(X, Y), evaluation={"a": (X, Y)}))


def test_without_training_there_are_no_sets(tmp_path: Path) -> None:
    """The message says to train first."""
    with pytest.raises(StepOrderError, match="train first"):
        load_evaluation(tmp_path)
