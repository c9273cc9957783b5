"""The paired comparison with the live version."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from lastgood.pipelines.noninferiority import Paired, bound_loss, compare_answers, score, widen_margin


@st.composite
def paired_counts(draw: st.DrawFn) -> Paired:
    rows = draw(st.integers(20, 20_000))
    lost = draw(st.integers(0, rows))
    return Paired(rows, lost, draw(st.integers(0, rows - lost)))


@given(paired_counts())
def test_the_bound_lies_between_the_measured_loss_and_one(paired: Paired) -> None:
    """An upper confidence bound is never below what was measured."""
    bound = bound_loss(paired, 0.95)
    assert paired.loss - 1e-9 <= bound <= 1.0


@given(paired_counts(), st.integers(1, 50))
def test_losing_more_rows_never_lowers_the_bound(paired: Paired, more: int) -> None:
    """Turning rows that both had right into lost ones never makes a version look better."""
    lost = min(paired.lost + more, paired.rows - paired.won)
    assert bound_loss(Paired(paired.rows, lost, paired.won), 0.95) >= bound_loss(paired, 0.95) - 1e-9


@given(paired_counts())
def test_more_confidence_asks_for_a_wider_bound(paired: Paired) -> None:
    """A promise that fails less often is a weaker promise."""
    assert bound_loss(paired, 0.99) >= bound_loss(paired, 0.95) - 1e-9


@pytest.mark.parametrize("rows", [10, 500, 5000])
def test_without_a_difference_the_bound_has_the_closed_form(rows: int) -> None:
    """With no row lost or won, the score interval ends at z^2 / (n + z^2)."""
    z = norm.ppf(0.95)
    assert bound_loss(Paired(rows, 0, 0), 0.95) == pytest.approx(z**2 / (rows + z**2), abs=1e-9)


@pytest.mark.parametrize(("rows", "lost", "won", "loss"), [(100, 9, 4, 0.02), (5000, 60, 40, 0.01), (300, 0, 5, 0.05), (44, 1, 0, 0.1)])
def test_the_score_uses_the_likeliest_share_under_the_supposed_loss(rows: int, lost: int, won: int, loss: float) -> None:
    """The closed form agrees with maximising the likelihood numerically."""
    both = rows - lost - won

    def unlikely(share: float) -> float:
        shares = ((lost, share + loss), (won, share), (both, 1 - 2 * share - loss))
        return -sum(count * math.log(max(part, 1e-300)) for count, part in shares if count)

    share = minimize_scalar(unlikely, bounds=(0, (1 - loss) / 2), method="bounded", options={"xatol": 1e-12}).x
    expected = (lost - won - rows * loss) / math.sqrt(rows * (2 * share + loss * (1 - loss)))
    assert score(rows, lost, won, loss) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_on_many_rows_the_bound_is_near_the_normal_one() -> None:
    """With thousands of rows the score interval meets the plain one of paired differences."""
    rows, lost, won = 20_000, 400, 300
    difference = (lost - won) / rows
    plain = difference + norm.ppf(0.95) * math.sqrt((lost + won) / rows - difference**2) / math.sqrt(rows)
    assert bound_loss(Paired(rows, lost, won), 0.95) == pytest.approx(plain, abs=2e-4)


def test_the_bound_covers_the_truth_as_often_as_it_says() -> None:
    """Over repeated draws at a known loss, the bound is below it in at most about one of twenty."""
    rng = np.random.default_rng(3)
    rows, truth = 1000, 0.01
    draws = rng.multinomial(rows, [0.03, 0.02, 0.95], size=2000)
    missed = np.mean([bound_loss(Paired(rows, int(lost), int(won)), 0.95) < truth for lost, won, _ in draws])
    assert missed < 0.065


def test_copies_of_one_original_count_as_one() -> None:
    """Copies that always agree widen the bound as if each original were there once."""
    rng = np.random.default_rng(0)
    live, new = rng.random(400) < 0.97, rng.random(400) < 0.96
    once = compare_answers(new, live, np.arange(400))
    tenfold = compare_answers(np.tile(new, 10), np.tile(live, 10), np.tile(np.arange(400), 10))
    assert tenfold.design_effect == pytest.approx(10, rel=0.01)
    assert bound_loss(tenfold, 0.95) == pytest.approx(bound_loss(once, 0.95), rel=0.01)


def test_copies_without_any_difference_count_as_one_each() -> None:
    """No difference says nothing about how alike copies are, so they are taken to be alike."""
    right = np.ones(300, np.bool_)
    assert compare_answers(right, right, np.repeat(np.arange(100), 3)).design_effect == 3.0


def test_fewer_rows_get_a_wider_margin() -> None:
    """From 5,000 rows the margin is the one asked for; below it grows with the standard error."""
    assert widen_margin(0.01, 5000) == 0.01
    assert widen_margin(0.01, 1250) == pytest.approx(0.02)
