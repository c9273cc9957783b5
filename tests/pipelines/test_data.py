"""What load() may give."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.pipelines.data import Data
from lastgood.pipelines.errors import DataError

X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 0, 1, 2, 2])


def test_numbers_become_float32_and_whole_labels() -> None:
    """Lists, doubles and labels like 1.0 are converted."""
    data = Data(train=(X.tolist(), Y.astype(float)), evaluation={"clean": (X, Y)})  # type: ignore[arg-type]
    assert (data.train[0].dtype, data.train[1].dtype) == (np.float32, np.int64)


NAN = np.where(X == 3, np.nan, X)
BAD: list[tuple[dict[str, Any], str]] = [
    ({"train": (X[:5], Y)}, r"train has x of shape \(5, 2\) and y of shape \(6,\)"),
    ({"train": (NAN, Y)}, "train has x with 1 values that are not finite, first in row 1"),
    ({"train": (X, Y - 1)}, "whole numbers from 0"),
    ({"train": (X, Y + 0.5)}, "whole numbers from 0"),
    ({"train": (X[:, 0], Y)}, r"expected \(rows, features…\)"),
    ({"train": X}, r"expected a tuple \(x, y\)"),
    ({"train": (np.array([["a", "b"]] * 6), Y)}, "no array of numbers"),
    ({"evaluation": {}}, "without a set"),
    ({"evaluation": {"clean": (X[:0], Y[:0])}}, "has no rows"),
    ({"evaluation": {"clean": (X[:, :1], Y)}}, r"rows of shape \(1,\); expected \(2,\)"),
    ({"groups": {"clean": Y[:3]}}, "one number per row of a set"),
    ({"groups": {"other": Y}}, "one number per row of a set"),
    ({"times": {"clean": Y[:3]}}, r"times\['clean'\] has shape \(3,\); expected one number per row of a set"),
    ({"times": {"other": Y}}, "one number per row of a set"),
    ({"times": {"clean": ["noon"] * 6}}, "expected unix seconds"),
    ({"times": {"clean": [1.0, 2, 3, 4, 5, float("nan")]}}, "1 values that are not finite"),
]


@pytest.mark.parametrize(("changed", "sentence"), BAD)
def test_what_cannot_be_trained_or_tested_on_is_a_sentence(changed: dict[str, Any], sentence: str) -> None:
    """Each wrong shape, type or value says what was given and what was expected."""
    with pytest.raises(DataError, match=sentence):
        Data(**{"train": (X, Y), "evaluation": {"clean": (X, Y)}, **changed})


def test_one_evaluation_set_is_allowed_and_warned_about() -> None:
    """Fewer than two sets make a weak gate, not an error."""
    (warning,) = Data(train=(X, Y), evaluation={"clean": (X, Y)}).warnings()
    assert "one evaluation set" in warning
    assert Data(train=(X, Y), evaluation={"clean": (X, Y), "noisy": (X, Y)}).warnings() == []


def test_labels_that_were_never_trained_on_are_warned_about() -> None:
    """A class only in the evaluation rows can never be right."""
    found = Data(train=(X[:4], Y[:4]), evaluation={"a": (X, Y), "b": (X, Y)}).warnings()
    assert found == ["The evaluation sets have labels [2] that the training rows do not have."]


@given(st.sampled_from(["train", "evaluation", "label"]), st.integers(0, 5))
def test_the_fingerprint_changes_with_any_value(where: str, row: int) -> None:
    """The same rows have the same fingerprint; one changed number gives another."""
    x, y, z = X.copy(), Y.copy(), X.copy()
    same = Data(train=(X, Y), evaluation={"clean": (X, Y)}).fingerprint()
    assert Data(train=(x, y), evaluation={"clean": (z, Y)}).fingerprint() == same
    if where == "label":
        y[row] += 1
    else:
        (x if where == "train" else z)[row, 0] += 1
    assert Data(train=(x, y), evaluation={"clean": (z, Y)}).fingerprint() != same


def test_row_times_are_part_of_the_data() -> None:
    """They become doubles, stay with a held-out validation set, and change the fingerprint."""
    data = Data(train=(X, Y), evaluation={"a": (X, Y)}, times={"a": range(6)})  # type: ignore[dict-item]
    assert (np.float64, [0, 1, 2, 3, 4, 5]) == (data.times["a"].dtype, data.times["a"].tolist())
    assert [0, 1, 2, 3, 4, 5] == data.hold_out_validation().times["a"].tolist()
    assert data.fingerprint() != Data(train=(X, Y), evaluation={"a": (X, Y)}).fingerprint()


def test_rows_without_groups_are_all_their_own_originals() -> None:
    """Rows of different sets are never taken for copies unless load() says so."""
    data = Data(train=(X, Y), evaluation={"a": (X, Y), "b": (X, Y)})
    assert len(np.unique(np.concatenate(list(data.groups.values())))) == 12


def test_a_held_out_part_is_the_same_each_time_and_shares_no_row() -> None:
    """The validation rows leave the training rows."""
    data = Data(train=(X, Y), evaluation={"a": (X, Y)})
    first, second = data.hold_out_validation(), data.hold_out_validation()
    assert first.fingerprint() == second.fingerprint()
    assert first.validation is not None
    joined = np.concatenate([first.train[0], first.validation[0]])
    assert sorted(joined[:, 0].tolist()) == sorted(X[:, 0].tolist())
