"""
Tables and charts as text: Markdown for terminals' logs and flows, HTML and SVG for reports.

matplotlib and jinja2 are imported when a chart or page is made. The same numbers give the same bytes.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from lastgood.errors import UsageError

_COLOURS = ("#2f6f9f", "#d98032", "#4f9a5b", "#b4474a", "#7d6aa8")
_HASH_SALT = "lastgood"  # element ids of an SVG are hashes; with a fixed salt they are the same each time


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of text cells; every row has as many cells as there are columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        """Refuse ragged rows."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise UsageError(f"Table {self.title!r} has a row of {len(row)} cells, {row!r:.80}; expected {len(self.columns)}.")

    def to_markdown(self) -> str:
        """Give a Markdown table under its title; a pipe in a cell is escaped."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        body = "\n".join("| " + " | ".join(_markdown_cell(cell) for cell in line) + " |" for line in lines)
        return f"**{self.title}**\n\n{body}\n" if self.title else f"{body}\n"

    def to_html(self) -> str:
        """Give an HTML table with every cell escaped."""
        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def to_json(self) -> list[dict[str, str]]:
        """Give one object per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def open_templates(package: str, folder: str = "templates") -> Any:
    """
    Give a jinja2 environment over a package's templates that escapes everything and refuses unknown names.

    Args:
        package: Import name, such as "lastgood.pipelines".
        folder: Where the templates are in it.
    """
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def draw_bars(title: str, values: Mapping[str, float], *, label: str, floor: float | None = None) -> str:
    """
    Draw horizontal bars, one per name, as SVG.

    Args:
        title: Above the chart.
        values: Bar lengths by name, drawn from the top.
        label: Of the value axis, with its unit.
        floor: A value to mark with a line.
    """
    figure, axes = _open_figure(title, height=1.0 + 0.28 * max(1, len(values)))
    names = list(values)
    axes.barh(range(len(names)), [values[name] for name in names], color=_COLOURS[0], height=0.7)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    if floor is not None:
        axes.axvline(floor, color=_COLOURS[3], linestyle="--", linewidth=1)
    return _close_figure(figure)


def draw_points(title: str, points: Mapping[str, tuple[float, float]], *, x_label: str, y_label: str, marked: str | None = None) -> str:
    """
    Draw named points, one of them marked, as SVG.

    Args:
        title: Above the chart.
        points: ``(x, y)`` by name.
        x_label: With its unit.
        y_label: With its unit.
        marked: Name of the point to stand out.
    """
    figure, axes = _open_figure(title, height=3.4)
    for name, (x, y) in points.items():
        axes.scatter([x], [y], color=_COLOURS[1 if name == marked else 0], s=70 if name == marked else 36, zorder=3)
        axes.annotate(name, (x, y), xytext=(6, 5), textcoords="offset points", fontsize=8)
    axes.margins(0.18)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    return _close_figure(figure)


def draw_groups(
    title: str,
    groups: Mapping[str, Mapping[str, float]],
    *,
    label: str,
    logarithmic: bool = True,
    spreads: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """
    Draw bars side by side, a group for each name and in it a bar for each series, as SVG.

    Args:
        title: Above the chart.
        groups: Values by series, by group; one that is missing gets no bar.
        label: Of the value axis, with its unit.
        logarithmic: Whether the value axis is; then values are above 0, and written beside the bars.
        spreads: How far a whisker reaches to both sides of a value, where there are any.
    """
    series = list(dict.fromkeys(name for own in groups.values() for name in own))
    figure, axes = _open_figure(title, height=0.9 + 0.24 * len(groups) * (len(series) + 1), width=7.2)
    for index, name in enumerate(series):
        places = [number + index / (len(series) + 1) for number, own in enumerate(groups.values()) if name in own]
        values = [own[name] for own in groups.values() if name in own]
        whiskers = None if spreads is None else [spreads[group][name] for group, own in groups.items() if name in own]
        style = {"height": 0.9 / (len(series) + 1), "color": _COLOURS[index % len(_COLOURS)], "label": name}
        axes.barh(places, values, xerr=whiskers, error_kw={"elinewidth": 0.8, "ecolor": "0.35"}, **style)
        for place, value in zip(places, values, strict=True) if logarithmic else ():
            axes.annotate(f"{value:,.0f}", (value, place), xytext=(3, 0), textcoords="offset points", fontsize=7, va="center")
    axes.set_yticks([number + (len(series) - 1) / 2 / (len(series) + 1) for number in range(len(groups))], list(groups))
    if logarithmic:
        axes.set_xscale("log")
        axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.legend(fontsize=8, frameon=False)
    return _close_figure(figure)


def draw_lines(
    title: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_label: str,
    levels: Mapping[str, float] | None = None,
    cuts: Sequence[float] = (),
) -> str:
    """
    Draw lines through points, with named levels and cuts, as SVG.

    Args:
        title: Above the chart.
        lines: ``(x, y)`` in order, by name.
        x_label: With its unit.
        y_label: With its unit.
        levels: Values of y to mark with a dashed line, by name.
        cuts: Values of x to mark with a thin line.
    """
    figure, axes = _open_figure(title, height=3.6, width=7.2)
    for index, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        axes.plot([x for x, _ in points], [y for _, y in points], color=colour, label=name, linewidth=1.4, marker="o", markersize=2.5)
        if levels and name in levels:
            axes.axhline(levels[name], color=colour, linestyle="--", linewidth=1)
    for x in cuts:
        axes.axvline(x, color="0.75", linewidth=0.8)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.legend(fontsize=8, frameon=False)
    return _close_figure(figure)


def draw_histograms(title: str, edges: Sequence[float], parts: Mapping[str, Sequence[float]], *, label: str) -> str:
    """
    Draw histograms of the same bars over each other, as SVG.

    Args:
        title: Above the chart.
        edges: Between the bars, one more than there are bars.
        parts: The part of all rows in each bar, by name.
        label: Of the value axis, with its unit.
    """
    figure, axes = _open_figure(title, height=2.4, width=4.6)
    for index, (name, own) in enumerate(parts.items()):
        axes.stairs(own, edges, color=_COLOURS[index % len(_COLOURS)], label=name, fill=index == 0, alpha=0.45 if index == 0 else 1)
    axes.set_xlabel(label)
    axes.set_ylabel("part of rows")
    axes.legend(fontsize=8, frameon=False)
    return _close_figure(figure)


def draw_matrix(title: str, counts: Sequence[Sequence[int]], *, x_label: str, y_label: str) -> str:
    """
    Draw a matrix of counts as coloured cells with numbers, as SVG.

    Args:
        title: Above the chart.
        counts: "row column", 0 or more.
        x_label: What the columns are.
        y_label: What the rows are.
    """
    size = min(7.0, 1.6 + 0.42 * len(counts))
    figure, axes = _open_figure(title, height=size, width=size + 0.4)
    totals = [max(1, sum(row)) for row in counts]
    shares = [[count / total for count in row] for row, total in zip(counts, totals, strict=True)]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(counts)))
    axes.set_yticks(range(len(counts)))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if len(counts) <= 20:
        for row, values in enumerate(counts):
            for column, count in enumerate(values):
                if count:
                    axes.text(
                        column,
                        row,
                        str(count),
                        ha="center",
                        va="center",
                        fontsize=7,
                        color="white" if shares[row][column] > 0.5 else "black",
                    )
    return _close_figure(figure)


def encode_picture(pixels: Any) -> str:
    """
    Give an image as a PNG in a data URI.

    Args:
        pixels: "row column", or "row column channel" of 1, 3 or 4 channels; numbers from 0, black, to 1.
    """
    from matplotlib.image import imsave

    out = io.BytesIO()
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    imsave(out, flat, format="png", cmap="gray", vmin=0, vmax=1)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def _markdown_cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _open_figure(title: str, *, height: float, width: float = 6.4) -> tuple[Any, Any]:
    # The object interface: pyplot would keep figures alive and choose a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _close_figure(figure: Any) -> str:
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": _HASH_SALT, "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]  # inline in a page: no XML declaration
