"""Accuracy without labels: right where confidence means what it meant, and open about where it does not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.monitoring.drift.estimate import BLINDNESS, AccuracyEstimator, Calibration, calibrate, estimate_accuracy
from lastgood.monitoring.drift.features import Array

RANDOM = np.random.default_rng(3)


def draw(rows: int, *, hard: float) -> tuple[Array, Array]:
    """Confidences, and whether the answers are right: exactly as often as the confidence says; a part of the rows is hard."""
    sure = np.where(RANDOM.random(rows) < hard, RANDOM.uniform(0.4, 0.7, rows), RANDOM.uniform(0.85, 1.0, rows))
    return sure, RANDOM.random(rows) < sure


@given(
    confidence=st.lists(st.floats(0, 1), min_size=1, max_size=200),
    right=st.randoms(use_true_random=False),
    independent=st.floats(0.01, 1),
)
def test_rates_never_fall_with_confidence_and_lie_between_none_and_all(confidence: list[float], right: object, independent: float) -> None:
    """However few rows there are, and however the labels fall."""
    hits = np.array([right.random() < 0.5 for _ in confidence])  # type: ignore[attr-defined]
    calibration = calibrate(np.array(confidence), hits, independent=independent)
    assert (np.diff(calibration.rates) >= -1e-12).all()
    assert ((calibration.rates > 0) & (calibration.rates < 1)).all()
    assert len(calibration.rates) == len(calibration.rows) == len(calibration.edges) + 1
    assert (calibration.right <= calibration.rows).all()
    again = Calibration.check(calibration.edges, np.stack((calibration.rows, calibration.right)), calibration.tested)
    assert again.tested == calibration.tested


def test_harder_inputs_are_seen_without_a_label() -> None:
    """The calibration comes from mostly easy rows; the estimate follows the part of hard ones within its interval."""
    calibration = calibrate(*draw(6000, hard=0.2))
    covered, said = 0, ""
    for _ in range(40):
        estimator = AccuracyEstimator(calibration)
        confidence, right = draw(3000, hard=0.7)
        estimator.observe(confidence)
        estimate = estimator.estimate()
        assert estimate is not None
        assert estimate.fell
        covered += estimate.low <= right.mean() <= estimate.high
        said = estimate.sentence
    assert covered >= 34  # of 40 at 95 %
    assert BLINDNESS == said


def test_it_does_not_fall_where_nothing_became_harder() -> None:
    """The tested accuracy lies in the interval."""
    calibration = calibrate(*draw(6000, hard=0.2))
    estimate = estimate_accuracy(calibration, np.round(calibration.rows * 0.5))
    assert estimate is not None
    assert estimate.low <= calibration.tested <= estimate.high
    assert not estimate.fell


def test_it_is_blind_to_labels_that_come_to_mean_something_else() -> None:
    """The stated limit: the same confidences give the same estimate, whatever is right now."""
    calibration = calibrate(*draw(6000, hard=0.2))
    confidence, _ = draw(5000, hard=0.2)
    estimate = estimate_accuracy(calibration, np.bincount(np.searchsorted(calibration.edges, confidence, side="right"), minlength=12))
    assert estimate is not None
    assert not estimate.fell  # though every answer might be wrong


def test_fewer_labels_and_fewer_rows_widen_the_interval() -> None:
    """Both parts of the uncertainty count; copies of one original are fewer labels."""
    confidence, right = draw(4000, hard=0.3)

    def width(independent: float, rows: int) -> float:
        calibration = calibrate(confidence, right, independent=independent)
        estimate = estimate_accuracy(calibration, np.full(len(calibration.rates), rows))
        assert estimate is not None
        return estimate.high - estimate.low

    assert width(0.1, 1000) > width(1.0, 1000) > width(1.0, 100_000)
    assert width(1.0, 10) > width(1.0, 1000)


def test_an_estimate_is_about_the_last_rows() -> None:
    """What was a window ago is forgotten, and nothing grows."""
    estimator = AccuracyEstimator(calibrate(*draw(2000, hard=0.5)), window=1000)
    assert estimator.estimate() is None
    for _ in range(10):
        estimator.observe(np.full(300, 0.45))
    low = estimator.estimate()
    for _ in range(10):
        estimator.observe(np.full(300, 0.99))
    high = estimator.estimate()
    assert low is not None
    assert high is not None
    assert low.accuracy < 0.6
    assert high.accuracy > 0.9
    assert 500 <= high.rows <= 1300


@pytest.mark.parametrize("edges", [np.array([0.5, 0.5]), np.array([np.nan]), np.zeros((1, 1)), np.array([0.5], np.float32)])
def test_a_calibration_that_cannot_be_is_refused(edges: Array) -> None:
    """It is read from a file."""
    with pytest.raises(ValueError, match="calibration"):
        Calibration.check(edges, np.ones((2, len(edges) + 1), np.uint32), 0.5)
