"""Choosing among measured variants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.compression.choose import Variant, choose
from lastgood.compression.recipes import FP32, RECIPES

ratios = st.floats(0, 1)
variants = st.lists(
    st.builds(
        Variant,
        recipe=st.sampled_from([name for name in RECIPES if name != FP32]),
        bytes=st.integers(1, 10**7),
        accuracy=ratios,
        agreement=ratios,
        p50_seconds=st.floats(1e-6, 1e-2),
        p95_seconds=st.floats(1e-6, 1e-2),
    ),
    max_size=5,
    unique_by=lambda own: own.recipe,
)
baselines = st.builds(
    Variant, recipe=st.just(FP32), bytes=st.integers(1, 10**7), accuracy=ratios, agreement=st.just(1.0), p95_seconds=st.floats(1e-6, 1e-2)
)


def number(value: float | None) -> float:
    assert value is not None
    return value


@given(baselines, variants, ratios, ratios)
def test_never_chooses_what_is_both_slower_and_less_accurate(
    baseline: Variant, others: list[Variant], floor: float, agreement: float
) -> None:
    """Among variants with the agreement asked for, no other is both faster and more accurate than the chosen one."""
    chosen = choose([baseline, *others], accuracy_floor=floor, agreement_floor=agreement)
    (winner,) = [own for own in chosen if own.chosen]
    for own in chosen:
        faster = number(own.p95_seconds) < number(winner.p95_seconds)
        better = number(own.accuracy) > number(winner.accuracy)
        assert not (faster and better and number(own.agreement) >= agreement)


@given(baselines, variants, ratios, ratios)
def test_always_chooses_one_and_gives_every_other_a_reason(
    baseline: Variant, others: list[Variant], floor: float, agreement: float
) -> None:
    """There is always exactly one choice, and every variant says why."""
    chosen = choose([baseline, *others], accuracy_floor=floor, agreement_floor=agreement)
    assert sum(own.chosen for own in chosen) == 1
    assert [own.recipe for own in chosen] == [own.recipe for own in (baseline, *others)]
    assert all(own.verdict.startswith("Chosen: " if own.chosen else "Lost: ") for own in chosen)


@given(baselines, variants, ratios, ratios)
def test_keeps_the_floors_where_any_variant_does(baseline: Variant, others: list[Variant], floor: float, agreement: float) -> None:
    """A variant below a floor is chosen only when all are."""
    chosen = choose([baseline, *others], accuracy_floor=floor, agreement_floor=agreement)

    def keeps(own: Variant) -> bool:
        return number(own.accuracy) >= floor and number(own.agreement) >= agreement

    assert any(keeps(own) for own in chosen) == all(keeps(own) for own in chosen if own.chosen)


def test_a_fixed_recipe_is_chosen_whatever_it_measures() -> None:
    """The recipe parameter decides without latency, so that the digest does not depend on the host's mood."""
    slow = Variant("pruned", 10, 0.5, 0.5, 1.0, 1.0)
    chosen = choose([Variant(FP32, 10, 0.9, 1.0, 0.1, 0.1), slow], accuracy_floor=0.9, agreement_floor=0.9, fixed="pruned")
    assert [own.recipe for own in chosen if own.chosen] == ["pruned"]


def test_a_failed_recipe_keeps_its_reason() -> None:
    """A recipe that does not fit is a row with the reason."""
    failed = Variant("pruned", failure="there is no hidden layer to prune")
    chosen = choose([Variant(FP32, 10, 0.9, 1.0, 0.1, 0.1), failed], accuracy_floor=0.5, agreement_floor=0.5)
    assert chosen[1].verdict == "Lost: there is no hidden layer to prune."


def test_choosing_a_recipe_that_was_not_measured_is_a_bug() -> None:
    """Nothing to choose from is never answered with a made-up choice."""
    with pytest.raises(ValueError, match="nothing measured"):
        choose([Variant(FP32, failure="gone")], accuracy_floor=0, agreement_floor=0)
