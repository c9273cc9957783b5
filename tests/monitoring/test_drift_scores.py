"""Values as scores, and the bets on them: the promise is computed exactly where that can be done."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastgood.monitoring.drift.bets import SHIFT_BETS, SPREAD_BETS, place_bets
from lastgood.monitoring.drift.detector import BLOCK, CAP, FamilyDetector
from lastgood.monitoring.drift.features import Array
from lastgood.monitoring.drift.scores import CELLS, MISSING, MOST, Cells, count_cells, find_cells, score_cells, weigh_cells

COUNTS = st.lists(st.integers(0, 50), min_size=CELLS - 1, max_size=CELLS - 1).filter(any).map(lambda own: np.array([0, *own]))
FEW = st.dictionaries(st.integers(1, CELLS - 1), st.integers(1, 500), min_size=1, max_size=4).map(
    lambda own: np.array([own.get(cell, 0) for cell in range(CELLS)])
)


@given(counts=st.one_of(COUNTS, FEW))
def test_scores_rise_with_the_value_have_mean_zero_and_are_bounded(counts: Array) -> None:
    """Whatever the shape of a distribution is; a missing value scores 0."""
    weights = weigh_cells(counts)
    scores = score_cells(weights)
    assert math.isclose(1, weights.sum())
    assert abs(weights @ scores) < 0.05  # cutting at the bound may move it
    assert weights @ scores**2 <= 1 + 1e-6
    assert np.abs(scores).max() <= MOST
    assert (np.diff(scores[1:]) >= -1e-9).all()
    assert scores[MISSING] == 0


def test_normal_values_score_their_distance_from_the_mean_in_sigma() -> None:
    """So that a shift of half a sigma is half a unit."""
    values = np.random.default_rng(1).normal(5, 3, (20_000, 1)).astype(np.float32)
    cells = Cells(*find_cells(values))
    scores = score_cells(weigh_cells(count_cells(cells.locate(values), 1)[0]))
    for sigma in (-2.0, -0.5, 0.0, 1.0, 2.0):
        assert pytest.approx(sigma, abs=0.15) == scores[cells.locate(np.array([[5 + 3 * sigma]], np.float32))[0, 0]]


@given(values=st.lists(st.floats(width=32), min_size=1, max_size=30))
def test_every_number_has_a_cell_of_its_feature(values: list[float]) -> None:
    """Infinite and missing ones too; larger values never have a smaller cell."""
    features = np.array([values, values], np.float32).T
    located = Cells(*find_cells(features)).locate(features)
    assert (located[:, 1] - located[:, 0] == CELLS).all()
    assert ((located[:, 0] >= 0) & (located[:, 0] < CELLS)).all()
    assert (np.isnan(features[:, 0]) == (located[:, 0] == MISSING)).all()
    known = np.argsort(features[:, 0], kind="stable")[: int((~np.isnan(features[:, 0])).sum())]
    assert (np.diff(located[known, 0]) >= 0).all()


def test_a_feature_that_never_changes_still_has_a_cell_for_other_values() -> None:
    """Another value than the only one that was seen is an extreme one."""
    cells = Cells(*find_cells(np.full((10, 1), 7, np.float32)))
    assert [CELLS - 1, 1] == cells.locate(np.array([[8], [6]], np.float32))[:, 0].tolist()


def test_the_stakes_of_all_bets_add_up_to_one() -> None:
    """Else the family's evidence is no average of e-detectors, and the run length is another one."""
    assert math.isclose(1, 2 * sum(SHIFT_BETS.values()) + 2 * sum(SPREAD_BETS.values()))


@settings(max_examples=60)
@given(counts=st.one_of(COUNTS, FEW), tolerated=st.floats(0, 1.5), part=st.floats(0, 1))
def test_a_bet_averages_to_at_most_one_under_every_tolerated_tilt_of_the_reference(counts: Array, tolerated: float, part: float) -> None:
    """The composite null hypothesis, for either direction of mean and spread: not only the sample that was seen is innocent."""
    weights = weigh_cells(counts)[None]
    scores = score_cells(weights[0])[None]
    edge = np.array([tolerated])
    bets = place_bets(scores, weights, tolerated=edge, tolerated_spread=edge)
    mean = float((weights * scores**2).sum())
    sigma = math.sqrt(max(float((weights * (scores**2 - mean) ** 2).sum()), 1e-9))
    for index in range(len(bets.stakes)):
        value = scores[0] if index < bets.shifts else scores[0] ** 2
        unit = scores[0] if index < bets.shifts else (scores[0] ** 2 - mean) / sigma
        sign = np.sign(bets.factors[0, index])
        for tilt in np.linspace(0, 40, 60) * part * sign:
            powers = np.log(np.maximum(weights[0], 1e-300)) + tilt * unit
            tilted = np.exp(powers - powers.max())
            tilted /= tilted.sum()
            if sign * (tilted @ unit) <= tolerated:
                assert tilted @ np.exp(np.minimum(bets.factors[0, index] * value - bets.costs[0, index], 600)) <= 1 + 1e-6


def test_the_expectation_of_the_familys_evidence_is_at_most_the_rows() -> None:
    """Two features of two values each, two blocks: every outcome weighed by its probability, so this is the promise itself."""
    counts = np.zeros((2, CELLS), np.int64)
    counts[0, [40, 80]], counts[1, [40, 80]] = (700, 300), (950, 50)
    weights = np.stack([weigh_cells(own) for own in counts])
    scores = np.stack([score_cells(own) for own in weights])
    edge = np.full(2, 0.05)
    bets = place_bets(scores, weights, tolerated=edge, tolerated_spread=edge)
    # As likely as they may be: all mass on the two cells, as in the sample.
    rates = counts[:, 80] / counts.sum(axis=1)
    low, high = scores[:, 40], scores[:, 80]
    chances = np.array([[math.comb(BLOCK, k) * rate**k * (1 - rate) ** (BLOCK - k) for k in range(BLOCK + 1)] for rate in rates])
    hits = np.arange(BLOCK + 1)
    means = []
    for feature in range(2):
        sums = np.zeros((BLOCK + 1, 2))
        squares = np.zeros((BLOCK + 1, 2))
        sums[:, feature] = hits * high[feature] + (BLOCK - hits) * low[feature]
        squares[:, feature] = hits * high[feature] ** 2 + (BLOCK - hits) * low[feature] ** 2
        total = 0.0
        for first, second in product(range(BLOCK + 1), repeat=2):
            detector = FamilyDetector(2, bets, 1e9)
            order = [first, second]
            detector.add(sums[order], squares[order], np.zeros(2))
            total += chances[feature, first] * chances[feature, second] * float(detector.stakes[feature] @ bets.stakes)
        means.append(total)
    assert sum(means) / 2 <= 2 * BLOCK * (1 + 1e-5)


def test_evidence_is_capped_so_that_an_alarm_can_end() -> None:
    """Years of drift are no more than ten run lengths."""
    weights = weigh_cells(np.r_[0, np.ones(CELLS - 1, np.int64)])[None]
    scores = score_cells(weights[0])[None]
    bets = place_bets(scores, weights, tolerated=np.array([0.1]), tolerated_spread=np.array([0.1]))
    detector = FamilyDetector(1, bets, 1000.0)
    for _ in range(50):
        evidence = detector.add(np.full((16, 1), 3.0 * BLOCK), np.full((16, 1), 9.0 * BLOCK), np.zeros(16))
    assert evidence[-1] <= CAP * 1000 * len(bets.stakes)
    assert np.isfinite(evidence).all()
