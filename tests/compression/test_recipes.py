"""Which recipes are tried on what."""

import pytest

from lastgood.compression.recipes import DEFAULT_RECIPES, FP32, RECIPES, RecipeDoesNotFitError, check_fits, select_recipes
from lastgood.errors import UsageError


def test_float32_is_always_measured_too() -> None:
    """Whatever is fixed, the float32 file is there to compare with."""
    assert [recipe.name for recipe in select_recipes("static-int8", None)] == [FP32, "static-int8"]
    assert [recipe.name for recipe in select_recipes("auto", ["pruned"])] == [FP32, "pruned"]
    assert tuple(recipe.name for recipe in select_recipes("auto", None)) == DEFAULT_RECIPES


def test_an_unknown_recipe_is_named_with_the_known_ones() -> None:
    """A typing error in a pipeline's recipes says what could be meant."""
    with pytest.raises(UsageError, match=r"'int9'.*static-int8"):
        select_recipes("auto", ["int9"])


@pytest.mark.parametrize(
    ("name", "keras", "operators"),
    [
        ("pruned", False, {"Conv"}),
        ("magnitude", False, {"Gemm"}),
        ("static-int8", False, {"TreeEnsembleClassifier"}),
        ("dynamic-int8", True, {"Conv"}),
    ],
)
def test_a_recipe_that_cannot_help_says_why(name: str, keras: bool, operators: set[str]) -> None:  # noqa: FBT001
    """Pruning needs Keras, quantization needs matrices, and dynamic int8 needs there to be no convolution."""
    with pytest.raises(RecipeDoesNotFitError):
        check_fits(RECIPES[name], keras=keras, operators=frozenset(operators))


def test_float32_fits_everything() -> None:
    """There is always one file to release."""
    check_fits(RECIPES[FP32], keras=False, operators=frozenset({"TreeEnsembleClassifier"}))
