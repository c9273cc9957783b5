"""A comparison as one HTML page that needs nothing else."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import markupsafe
import numpy as np

from lastgood.pipelines.compare.behaviour import Behaviour
from lastgood.pipelines.compare.flips import KINDS, Flip
from lastgood.pipelines.compare.parts import find_image_axes
from lastgood.pipelines.compare.tabulate import explain, tabulate_behaviour
from lastgood.pipelines.data import Array
from lastgood.pipelines.evaluation import Evaluation
from lastgood.registry.compare.tabulate import tabulate
from lastgood.registry.compare.tensors import TensorChange
from lastgood.registry.compare.versions import Comparison
from lastgood.render import Table, draw_bars, draw_groups, draw_matrix, encode_picture, open_templates

BARS: Final = 40
PICTURES: Final = 12  # of each kind of flip
_NAME_CHARS: Final = 48


@dataclass(frozen=True, slots=True)
class Picture:
    """A flipped row as an image: a data URI, and both answers by name."""

    flip: Flip
    before: str
    after: str
    source: str


def write_page(comparison: Comparison, behaviour: Behaviour | None = None, evaluation: Evaluation | None = None) -> str:
    """
    Give the page; every text in it is escaped, and nothing is fetched from elsewhere.

    Args:
        comparison: What is stored of both; only what differs is shown.
        behaviour: What both did on the same rows, if they were run.
        evaluation: Those rows.
    """
    shown = comparison.without_equal()
    before, after = str(comparison.before), str(comparison.after)
    tables = [] if behaviour is None else tabulate_behaviour(behaviour, before, after)
    text: str = (
        open_templates("lastgood.pipelines")
        .get_template("compare.html")
        .render(
            comparison=comparison,
            charts=[markupsafe.Markup(chart) for chart in _draw_stored(shown, before, after)],  # noqa: S704 - matplotlib escapes its texts
            behaviour=behaviour,
            sentence="" if behaviour is None else explain(behaviour),
            answered=_mark(tables),
            behaviour_charts=[] if behaviour is None else list(map(markupsafe.Markup, _draw_behaviour(behaviour, before, after))),
            pictures={} if behaviour is None or evaluation is None else draw_flips(behaviour, evaluation),
            tables=_mark(tabulate(shown)),
        )
    )
    return text


def draw_flips(behaviour: Behaviour, evaluation: Evaluation) -> Mapping[str, list[Picture]]:
    """Give the first flipped rows of each kind as images, by what the kind is called; nothing where inputs are no images."""
    axes = find_image_axes(evaluation.row.shape[1:])
    chosen = {kind: [own for own in behaviour.flipped if own.kind == kind][:PICTURES] for kind in KINDS}
    if axes is None or not behaviour.flipped:
        return {}
    pixels = {own: evaluation.sets[own.set].x[own.row] for listed in chosen.values() for own in listed}
    low, high = min(float(own.min()) for own in pixels.values()), max(float(own.max()) for own in pixels.values())
    names = behaviour.classes
    return {
        KINDS[kind]: [
            Picture(own, names[own.before], names[own.after], encode_picture(_arrange(pixels[own], axes, low, high))) for own in listed
        ]
        for kind, listed in chosen.items()
        if listed
    }


def _arrange(pixels: Array, axes: tuple[int, int], low: float, high: float) -> Array:
    """Put channels last, and values between 0 and 1, all pictures alike."""
    placed = np.moveaxis(pixels, axes, (0, 1))
    return (placed - low) / (high - low) if high > low else np.zeros_like(placed)


def _draw_stored(shown: Comparison, before: str, after: str) -> Iterable[str]:
    far = {own: own.distance.l2_relative for own in shown.tensors if own.distance is not None and own.distance.l2_relative is not None}
    finite = {own: value for own, value in far.items() if math.isfinite(value)}
    if finite:
        most = set(sorted(finite, key=lambda own: -finite[own])[:BARS])
        bars = _name(((own, value) for own, value in finite.items() if own in most), several=len({own.path for own in most}) > 1)
        title = "Distance by tensor" if len(bars) == len(finite) else f"Distance by tensor, the {BARS} that moved most"
        yield draw_bars(title, bars, label="L2 distance as a part of the first's norm")
    for graph in shown.graphs:
        counts = {_shorten(own.title): {before: own.before, after: own.after} for own in graph.operators}
        if counts:
            yield draw_groups(f"Operators of {_shorten(graph.path)}", counts, label="nodes", logarithmic=False)


def _draw_behaviour(behaviour: Behaviour, before: str, after: str) -> Iterable[str]:
    if behaviour.flipped:
        yield draw_matrix("Flips from class to class", behaviour.matrix, x_label=f"answer of {after}", y_label=f"answer of {before}")
    parts = behaviour.importance.parts[:BARS]
    means = {_shorten(own.name): {before: own.before.mean * 100, after: own.after.mean * 100} for own in parts}
    spreads = {_shorten(own.name): {before: own.before.deviation * 100, after: own.after.deviation * 100} for own in parts}
    title = "What each version leans on"
    yield draw_groups(title, means, label="accuracy lost without it, percentage points", logarithmic=False, spreads=spreads)


def _name(values: Iterable[tuple[TensorChange, float]], *, several: bool) -> dict[str, float]:
    """Give values by short names that are all different."""
    named: dict[str, float] = {}
    for own, value in values:
        name = _shorten(f"{own.path}: {own.name}" if several else own.name)
        number = 2
        while name in named:
            name, number = f"{name} ({number})", number + 1
        named[name] = value
    return named


def _shorten(name: str) -> str:
    """Keep a name's end, which tells most, and dollars from starting a formula."""
    short = name if len(name) <= _NAME_CHARS else f"…{name[1 - _NAME_CHARS :]}"
    return "".join(character if character.isprintable() else " " for character in short).replace("$", r"\$")


def _mark(tables: Iterable[Table]) -> list[markupsafe.Markup]:
    return [markupsafe.Markup(table.to_html()) for table in tables]  # noqa: S704 - escapes its cells
