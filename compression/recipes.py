"""The ways to make a model smaller and faster, as one table, and which of them fit a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from lastgood.errors import UsageError

AUTO = "auto"
FP32 = "fp32"
MATRIX_OPERATORS = frozenset({"Conv", "MatMul", "Gemm"})


class RecipeDoesNotFitError(UsageError):
    """The recipe cannot be applied to this model; the message is the reason, without the recipe's name."""

    code = "compression.recipe-does-not-fit"


@dataclass(frozen=True, slots=True)
class Recipe:
    """
    One way to compress.

    Attributes:
        name: As in ``--set recipe=NAME``.
        summary: What it does, one clause.
        keep: Share of filters and hidden units that structured pruning keeps.
        sparsity: Share of single weights that magnitude pruning sets to zero.
        quantize: How weights and activations become int8.
    """

    name: str
    summary: str
    keep: float | None = None
    sparsity: float | None = None
    quantize: Literal["static", "dynamic"] | None = None

    @property
    def trains(self) -> bool:
        """Whether it needs the Keras model and the training rows."""
        return self.keep is not None or self.sparsity is not None


RECIPES = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe(FP32, "the trained model as it is"),
            Recipe("static-int8", "int8 weights and activations, ranges measured on training rows", quantize="static"),
            Recipe("dynamic-int8", "int8 weights, ranges of activations measured while serving", quantize="dynamic"),
            Recipe("pruned", "half of the filters and hidden units dropped, fine-tuned", keep=0.5),
            Recipe(
                "pruned-static-int8", "half of the filters and hidden units dropped, fine-tuned, static int8", keep=0.5, quantize="static"
            ),
            Recipe("magnitude", "the smallest 60 % of single weights set to zero, fine-tuned", sparsity=0.6),
        )
    }
)
# Zeros inside a dense matrix buy no speed and, uncompressed, no bytes (measured), and the training costs a process of
# its own: asked for by name only.
DEFAULT_RECIPES = (FP32, "static-int8", "dynamic-int8", "pruned", "pruned-static-int8")


def read_operators(model: Path) -> frozenset[str]:
    """Give the operator types in an ONNX file's graph."""
    import onnx

    return frozenset(node.op_type for node in onnx.load(str(model), load_external_data=False).graph.node)


def check_fits(recipe: Recipe, *, keras: bool, operators: frozenset[str]) -> None:
    """
    Refuse a recipe that cannot help this kind of model.

    Raises:
        RecipeDoesNotFitError: It prunes what is no Keras model, or quantizes a graph without matrices.
    """
    if recipe.trains and not keras:
        raise RecipeDoesNotFitError("prunes Keras models only, and this is a scikit-learn one")
    if recipe.quantize is not None and not operators & MATRIX_OPERATORS:
        raise RecipeDoesNotFitError(
            f"the graph has no {', '.join(sorted(MATRIX_OPERATORS))} to quantize, only {', '.join(sorted(operators))}"
        )
    if recipe.quantize == "dynamic" and "Conv" in operators:
        raise RecipeDoesNotFitError("dynamic int8 makes convolutions several times slower; static int8 is for them")


def select_recipes(parameter: str, wanted: Sequence[str] | None) -> tuple[Recipe, ...]:
    """
    Give the recipes to try: float32 first, then the fixed one, or the wanted ones, or the default ones.

    Raises:
        UsageError: A name in the table of no recipe.
    """
    names = [parameter] if parameter != AUTO else list(wanted if wanted is not None else DEFAULT_RECIPES)
    if unknown := [name for name in names if name not in RECIPES]:
        raise UsageError(f"There is no recipe {', '.join(map(repr, unknown))}; expected {AUTO}, {', '.join(RECIPES)}.")
    return tuple(RECIPES[name] for name in dict.fromkeys([FP32, *names]))
