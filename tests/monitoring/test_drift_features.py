"""What is watched of a row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.monitoring.drift.errors import ProfileDamagedError, RowsMismatchError
from lastgood.monitoring.drift.features import LIMIT, PROJECTIONS, Array, Part, find_confidence, plan_features


@given(
    shape=st.lists(st.integers(1, 6), max_size=4),
    classes=st.integers(1, 40),
    rows=st.integers(1, 5),
    kind=st.sampled_from([np.float32, np.int64, np.bool_]),
)
def test_every_feature_has_a_name_and_the_plan_survives_json(shape: list[int], classes: int, rows: int, kind: type) -> None:
    """Rows of any shape and type give as many numbers as there are names, all different."""
    inputs: dict[str, Array] = {"x": np.ones((rows, *shape), kind)}
    outputs = {"p": np.full((rows, classes), 1 / classes, np.float32)}
    plan = plan_features(inputs, outputs)
    assert (rows, len(plan.names)) == plan.extract(inputs, outputs).shape
    assert len(set(plan.names)) == len(plan.names)
    assert plan.parts == tuple(Part.from_json(part.to_json()) for part in plan.parts)


def test_elements_are_features_up_to_the_limit_and_larger_inputs_are_summarised() -> None:
    """The smallest inputs come first; an image gives four summaries, projections and what is missing."""
    image, small = np.zeros((3, 20, 20), np.float32), np.zeros((3, LIMIT), np.int32)
    plan = plan_features({"image": image, "small": small}, {})
    assert {"image": "summary", "small": "elements"} == {part.name: part.kind for part in plan.parts}
    assert 4 + PROJECTIONS + 1 + LIMIT == len(plan.names)
    assert "elements" == plan_features({"image": image[:, :8, :8]}, {}).parts[0].kind


def test_the_projections_of_an_image_are_always_the_same() -> None:
    """A profile outlives the library version that made it, so they depend on nothing but the size."""
    image = np.arange(400, dtype=np.float32).reshape(1, 400)
    found = plan_features({"image": image}, {}).extract({"image": image}, {})[0, 4 : 4 + PROJECTIONS]
    np.testing.assert_allclose(found[:3], [92.5, 182.1, -382.0], atol=0.05)


def test_a_missing_value_is_counted_and_stays_missing() -> None:
    """The part of a row that is NaN is a feature of its own."""
    x = np.array([[1, np.nan], [1, 2]], np.float32)
    found = plan_features({"x": x}, {}).extract({"x": x}, {})
    assert [0.5, 0.0] == found[:, 2].tolist()
    assert np.isnan(found[0, 1])


def test_text_gives_its_length_in_characters_and_words() -> None:
    """Also as bytes that are no valid text."""
    text = np.array([["two words"], ["eins"], [b"\xff\xfe x"]], object)
    assert [[9, 2], [4, 1], [4, 2]] == plan_features({"t": text}, {}).extract({"t": text}, {}).tolist()


def test_an_output_of_classes_gives_scores_answers_and_confidence() -> None:
    """Of two classes the second says it all; of more each has its own."""
    plan = plan_features({}, {"p": np.array([[0.2, 0.5, 0.3]], np.float32)})
    assert plan.names[-1] == "out/p confidence"
    np.testing.assert_allclose(plan.extract({}, {"p": np.array([[0.2, 0.5, 0.3]])})[0], [0.2, 0.5, 0.3, 0, 1, 0, 0.5])
    assert ("out/p[1]", "out/p answers 1", "out/p confidence") == plan_features({}, {"p": np.array([[0.2, 0.8]], np.float32)}).names


@given(scores=st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=5))
def test_confidence_of_scores_that_are_no_probabilities_is_by_softmax(scores: list[float]) -> None:
    """It lies between one over the number of classes and one, however large the scores are."""
    (found,) = find_confidence(np.array([scores], np.float32), normal=False)
    assert 1 / len(scores) - 1e-6 <= found <= 1


@pytest.mark.parametrize("rows", [{"y": np.zeros((2, 3))}, {"x": np.zeros((2, 4))}, {"x": np.zeros(2)}])
def test_other_inputs_than_the_profiles_are_refused(rows: dict[str, Array]) -> None:
    """The sentence names what was expected."""
    plan = plan_features({"x": np.zeros((2, 3), np.float32)}, {})
    with pytest.raises(RowsMismatchError, match="x"):
        plan.extract(rows, {})


def test_inputs_and_outputs_of_different_lengths_are_refused() -> None:
    """One row in is one row out."""
    plan = plan_features({"x": np.zeros((2, 3), np.float32)}, {"p": np.full((2, 2), 0.5, np.float32)})
    with pytest.raises(RowsMismatchError, match="3 rows beside 2"):
        plan.extract({"x": np.zeros((2, 3), np.float32)}, {"p": np.full((3, 2), 0.5, np.float32)})


@pytest.mark.parametrize("shape", [[10_000], [-1], [0], ["3"], [2] * 9])
def test_a_part_of_an_impossible_shape_is_refused(shape: list[object]) -> None:
    """A profile that came from elsewhere cannot ask for a billion features."""
    value = {"side": "in", "name": "x", "kind": "elements", "shape": shape, "missing": False, "normal": True}
    with pytest.raises(ProfileDamagedError):
        Part.from_json(value)
