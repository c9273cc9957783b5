"""The statistics of two windows, beside scipy's own where it has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lastgood.monitoring.drift.features import Array
from lastgood.monitoring.drift.scores import CELLS, Cells, count_cells, find_cells
from lastgood.monitoring.drift.statistics import compare_counts, correct, correct_all, measure_psi, merge_cells

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)
COUNTS = st.lists(st.integers(0, 30), min_size=CELLS, max_size=CELLS).filter(any).map(np.array)


def count(before: Array, now: Array) -> tuple[Array, Array]:
    own = before.astype(np.float32)[:, None]
    cells = Cells(*find_cells(own))
    return count_cells(cells.locate(own), 1)[0], count_cells(cells.locate(now.astype(np.float32)[:, None]), 1)[0]


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5, 3.0])
def test_they_agree_with_scipy_on_the_values_themselves(shift: float) -> None:
    """Cells an eighth of a sigma wide lose little."""
    random = np.random.default_rng(round(shift * 10))
    before, now = random.normal(size=4000), random.normal(shift, size=2000)
    found = compare_counts(*count(before, now))
    assert stats.ks_2samp(before, now).statistic == pytest.approx(found.ks, abs=0.02)
    assert stats.wasserstein_distance(before, now) == pytest.approx(found.wasserstein_sigma, rel=0.05, abs=0.03)
    assert (stats.ks_2samp(before, now).pvalue < 1e-3) == (found.ks_p < 1e-3)


def test_chi_square_is_scipys_on_the_same_bins() -> None:
    """The statistic and the p-value."""
    random = np.random.default_rng(2)
    reference, current = count(random.normal(size=3000), random.normal(0.1, 1.1, size=3000))
    bins = merge_cells(reference)
    table = np.stack([np.bincount(bins, own) for own in (reference, current)])
    expected = stats.chi2_contingency(table[:, table.sum(axis=0) > 0])
    found = compare_counts(reference, current)
    assert (expected.statistic, expected.pvalue) == pytest.approx((found.chi_square, found.chi_square_p))


@given(counts=COUNTS)
def test_a_window_beside_itself_has_not_moved(counts: Array) -> None:
    """Every distance is 0, every p-value 1."""
    found = compare_counts(counts, counts)
    assert (0, 0, 0, 0) == pytest.approx((found.psi, found.ks, found.chi_square, found.wasserstein_sigma), abs=1e-9)
    assert min(found.ks_p, found.chi_square_p) > 1 - 1e-6


@given(one=COUNTS, other=COUNTS)
def test_every_pair_of_windows_gives_finite_figures(one: Array, other: Array) -> None:
    """Empty cells, one value, all missing."""
    found = compare_counts(one, other)
    assert found.psi >= 0
    assert 0 <= found.ks <= 1 + 1e-9
    assert 0 <= found.chi_square_p <= 1
    assert np.isfinite(found.wasserstein_sigma)


def test_missing_values_have_a_bin_of_their_own() -> None:
    """Else a tenth of values going missing would be a tenth fewer of each."""
    counts = np.r_[0, np.full(CELLS - 1, 50)]
    less = counts * 9 // 10
    assert compare_counts(counts, np.r_[700, less[1:]]).psi > 0.3


def test_psi_is_the_sum_it_is_known_as() -> None:
    """By hand: half and half against nine in ten."""
    expected = (0.9 - 0.5) * np.log(0.9 / 0.5) + (0.1 - 0.5) * np.log(0.1 / 0.5)
    assert expected == pytest.approx(measure_psi(np.array([5e6, 5e6]), np.array([9e6, 1e6])), rel=1e-4)


@given(p_values=P_VALUES)
def test_corrected_p_values_are_no_smaller_and_keep_their_order(p_values: list[float]) -> None:
    """Holm's are between the p-value and Bonferroni's."""
    found = correct(p_values)
    for p, own in zip(p_values, found, strict=True):
        assert p <= own <= min(1, p * len(p_values)) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 0).all()


def test_the_correction_is_holms() -> None:
    """The example of three."""
    assert [0.03, 0.06, 0.06] == pytest.approx(correct([0.01, 0.04, 0.03]))


def test_a_look_at_many_features_calls_none_of_them_moved_by_chance() -> None:
    """Two hundred features that did not move; the one beside them that did is named."""
    random = np.random.default_rng(4)
    quiet = [compare_counts(*count(random.normal(size=2000), random.normal(size=2000))) for _ in range(200)]
    moved = compare_counts(*count(random.normal(size=2000), random.normal(0.4, size=2000)))
    found = correct_all([*quiet, moved])
    assert [False] * 200 + [True] == [own.moved for own in found]


def test_a_difference_too_small_to_matter_is_none_however_certain() -> None:
    """A fiftieth of a sigma in a million rows."""
    random = np.random.default_rng(5)
    found = correct_all([compare_counts(*count(random.normal(size=1_000_000), random.normal(0.02, size=1_000_000)))])[0]
    assert found.adjusted_p < 1e-6
    assert not found.moved
