"""What two versions did on the same rows, as tables and a sentence."""

from typing import Final

from lastgood.pipelines.compare.behaviour import Behaviour
from lastgood.pipelines.compare.flips import Flips
from lastgood.render import Table

_SHOWN: Final = 20  # moves between classes and parts of the input; all are in JSON


def explain(behaviour: Behaviour) -> str:
    """Say in a sentence what became of the answers."""
    own = behaviour.overall
    flipped = own.lost + own.won + own.switched
    decided = "no chance" if own.p_value < 0.05 else "may be chance"
    return (
        f"Of {own.rows:,} rows of {behaviour.rows_of}'s evaluation sets, {flipped:,} are answered otherwise: {own.lost:,} that were right "
        f"are wrong, {own.won:,} that were wrong are right, {own.switched:,} are wrong in another way. "
        f"{own.right_before / own.rows:.2%} were right and {own.right_after / own.rows:.2%} are; {decided} by McNemar's exact test on "
        f"{own.originals:,} originals (p = {own.p_value:.2g})."
    )


def tabulate_behaviour(behaviour: Behaviour, before: str, after: str) -> list[Table]:
    """Give flips by set and slice with the test, distances of the outputs, and the parts most leant on."""
    counts = [("all rows", behaviour.overall)]
    counts += [("set", own) for own in behaviour.sets] + [("slice", own) for own in behaviour.slices]
    columns = (
        "",
        "name",
        "rows",
        f"right in {before}",
        f"right in {after}",
        "lost",
        "won",
        "otherwise wrong",
        "originals",
        "p",
        "p, corrected",
    )
    tables = [Table("Answers", columns, tuple((what, *_list_flips(own)) for what, own in counts))]
    if behaviour.flipped:
        names = behaviour.classes
        moves = [(names[i], names[j], count) for i, row in enumerate(behaviour.matrix) for j, count in enumerate(row) if count]
        moves.sort(key=lambda own: -own[2])
        title = "From class to class" if len(moves) <= _SHOWN else f"From class to class, the {_SHOWN} most frequent of {len(moves)}"
        listed = tuple((one, other, f"{count:,}") for one, other, count in moves[:_SHOWN])
        tables.append(Table(title, (before, after, "rows"), listed))
    rows = tuple(
        (
            name,
            *("none" if value is None else f"{value:.4g}" for value in (own.mean, own.largest)),
            f"{own.not_finite_before:,}",
            f"{own.not_finite_after:,}",
        )
        for name, own in behaviour.differences.items()
    )
    unanswered = (f"not answered by {before}", f"by {after}")
    tables.append(Table("Absolute difference of the outputs", ("set", "mean", "largest", *unanswered), rows))
    parts = tuple(
        (own.name, *(f"{loss.mean * 100:.2f} ± {loss.deviation * 100:.2f}" for loss in (own.before, own.after)), f"{own.apart * 100:+.2f}")
        for own in behaviour.importance.parts[:_SHOWN]
    )
    title = f"Accuracy lost without a part of the input, percentage points ({behaviour.importance.rows} rows)"
    tables.append(Table(title, ("part", before, after, "difference"), parts))
    return tables


def _list_flips(own: Flips) -> tuple[str, ...]:
    counts = (own.lost, own.won, own.switched, own.originals)
    ratios = (f"{right / own.rows:.2%}" for right in (own.right_before, own.right_after))
    return (own.name, f"{own.rows:,}", *ratios, *(f"{count:,}" for count in counts), f"{own.p_value:.2g}", f"{own.adjusted_p:.2g}")
