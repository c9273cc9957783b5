"""Which of the measured variants is released, and why each other one is not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lastgood.compression.recipes import FP32


@dataclass(frozen=True, slots=True)
class Variant:
    """
    One recipe's outcome.

    Attributes:
        recipe: Its name.
        bytes: Size of the file; None where the recipe failed.
        accuracy: Of all evaluation rows, on the exact file, 0 to 1.
        agreement: Share of those rows with the float32 file's label.
        p50_seconds: One row at a time on this host.
        p95_seconds: The same.
        failure: Why there is no file.
        chosen: Whether it is the one to release.
        verdict: Why it was chosen or lost, one sentence.
    """

    recipe: str
    bytes: int | None = None
    accuracy: float | None = None
    agreement: float | None = None
    p50_seconds: float | None = None
    p95_seconds: float | None = None
    failure: str | None = None
    chosen: bool = False
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """The numbers of a variant that has a file."""

    recipe: str
    accuracy: float
    agreement: float
    p95_seconds: float
    bytes: int


def choose(variants: Sequence[Variant], *, accuracy_floor: float, agreement_floor: float, fixed: str | None = None) -> tuple[Variant, ...]:
    """
    Choose the smallest p95 among those that keep the floors; always choose one.

    Where none keeps them, the most accurate one is chosen, so that a gate has something to refuse with numbers.

    Args:
        variants: What was tried, float32 among them.
        accuracy_floor: Accuracy that must be kept, 0 to 1.
        agreement_floor: Agreement with float32 that must be kept, 0 to 1.
        fixed: The recipe a person asked for: chosen whatever it measures.

    Returns:
        The same variants in the same order with ``chosen`` and ``verdict`` set.

    Raises:
        ValueError: No variant has numbers, or the fixed one has none.
    """
    measured = [found for variant in variants if (found := _numbers(variant)) is not None]
    if not measured or (fixed is not None and all(found.recipe != fixed for found in measured)):
        raise ValueError(f"nothing measured to choose from: {[variant.recipe for variant in variants]}, fixed {fixed}")
    keeping = [found for found in measured if found.accuracy >= accuracy_floor and found.agreement >= agreement_floor]
    if fixed is not None:
        best = next(found for found in measured if found.recipe == fixed)
        why = "fixed by the recipe parameter."
    elif keeping:
        best = min(keeping, key=lambda found: (found.p95_seconds, -found.accuracy, found.bytes, found.recipe))
        why = f"smallest p95 of {len(keeping)} that keep {accuracy_floor:.2%} accuracy."
    else:
        best = min(measured, key=lambda found: (-found.accuracy, found.p95_seconds, found.bytes, found.recipe))
        why = f"none keeps {accuracy_floor:.2%} accuracy and {agreement_floor:.2%} agreement; this is the most accurate."
    return tuple(
        replace(variant, chosen=True, verdict=f"Chosen: {why}")
        if variant.recipe == best.recipe
        else replace(variant, chosen=False, verdict=f"Lost: {_reason(variant, best, accuracy_floor, agreement_floor, fixed)}")
        for variant in variants
    )


def _numbers(variant: Variant) -> Measured | None:
    if variant.accuracy is None or variant.agreement is None or variant.p95_seconds is None or variant.bytes is None:
        return None
    return Measured(variant.recipe, variant.accuracy, variant.agreement, variant.p95_seconds, variant.bytes)


def _reason(variant: Variant, best: Measured, accuracy_floor: float, agreement_floor: float, fixed: str | None) -> str:
    own = _numbers(variant)
    if own is None:
        return f"{variant.failure or 'was not measured'}."
    if fixed is not None:
        return f"the recipe is fixed to {fixed}."
    if own.accuracy < accuracy_floor:
        return f"accuracy {own.accuracy:.2%} is {(accuracy_floor - own.accuracy) * 100:.2f} points below the floor {accuracy_floor:.2%}."
    if own.agreement < agreement_floor:
        return f"only {own.agreement:.2%} of rows get the label of {FP32}; expected {agreement_floor:.2%}."
    return f"p95 {own.p95_seconds * 1e6:.0f} µs against {best.p95_seconds * 1e6:.0f} µs."
