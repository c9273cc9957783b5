"""A window beside the reference for people: a table as Markdown, and one HTML page with overlaid histograms that needs nothing else."""

import base64
from typing import Final

import markupsafe
import numpy as np

from lastgood.monitoring.drift.estimate import BLINDNESS
from lastgood.monitoring.drift.scores import MISSING
from lastgood.monitoring.drift.statistics import LEVEL, NOTABLE_PSI, NOTABLE_SIGMA
from lastgood.pipelines.data import Array
from lastgood.pipelines.drift import WindowReport
from lastgood.render import Table, draw_histograms, open_templates

PICTURES: Final = 12
_BARS: Final = 40


def tabulate(report: WindowReport, *, most: int | None = None) -> Table:
    """Give the features, the most different first, as a table."""
    rows = tuple(
        (
            name,
            "moved" if own.moved else "-",
            f"{own.wasserstein_sigma:.3f}",
            f"{own.psi:.3f}",
            f"{own.ks:.3f}",
            f"{own.chi_square:,.1f}",
            f"{own.adjusted_p:.2g}",
        )
        for _, name, own in report.ranked[:most]
    )
    return Table(
        f"{report.version}, {report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC",
        ("feature", "", "Wasserstein, sigma", "PSI", "Kolmogorov-Smirnov", "chi-square", "p, corrected"),
        rows,
    )


def draw_feature(report: WindowReport, feature: int) -> str:
    """Draw one feature's histograms over each other, as SVG; values beyond eight robust sigma are in the outermost bars."""
    pair = {"tested": report.profile.counts[feature], "production": report.counts[feature]}
    used = np.flatnonzero(sum(own.astype(np.int64) for own in pair.values())[MISSING + 1 :])
    low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
    width = -(-(high - low) // _BARS)
    edges = report.profile.edges(feature)
    # One edge more on each side: the outermost cells reach on without end.
    step = float(edges[1] - edges[0])
    edges = np.concatenate(([edges[0] - step], edges, [edges[-1] + step]))[low : high + 1 : width]
    bars = {name: _join(own[MISSING + 1 :][low:high], width) for name, own in pair.items()}
    if len(edges) == len(next(iter(bars.values()))):
        edges = np.append(edges, edges[-1] + step * width)
    missing = {name: float(own[MISSING]) / max(1, int(own.sum())) for name, own in pair.items()}
    note = f"; missing: {missing['tested']:.1%} and {missing['production']:.1%}" if any(missing.values()) else ""
    return draw_histograms(report.profile.plan.names[feature], edges.tolist(), bars, label=f"value{note}")


def write_markdown(report: WindowReport) -> str:
    """Give the artifact: the sentence, the features that moved or differ most, and a picture of the first one."""
    number = report.ranked[0][0]
    encoded = base64.b64encode(draw_feature(report, number).encode()).decode()
    picture = f"![{report.profile.plan.names[number]}](data:image/svg+xml;base64,{encoded})"
    return f"{report.sentence}\n\n{tabulate(report, most=20).to_markdown()}\n{picture}\n\n{BLINDNESS}\n"


def write_page(report: WindowReport) -> str:
    """Give the page; every text in it is escaped, and nothing is fetched from elsewhere."""
    template = open_templates("lastgood.pipelines").get_template("drift.html")
    text: str = template.render(
        report=report,
        table=markupsafe.Markup(tabulate(report).to_html()),  # noqa: S704 - escapes its cells
        pictures=[markupsafe.Markup(draw_feature(report, number)) for number, _, _ in report.ranked[:PICTURES]],  # noqa: S704 - matplotlib's
        blindness=BLINDNESS,
        level=f"{LEVEL:.0%}",
        notable=f"{NOTABLE_SIGMA:g} sigma or a PSI of {NOTABLE_PSI:g}",
    )
    return text


def _join(counts: Array, width: int) -> list[float]:
    """Give parts of all rows in bars of so many cells."""
    padded = np.append(counts, np.zeros(-len(counts) % width))
    return [float(own) for own in padded.reshape(-1, width).sum(axis=1) / max(1, int(counts.sum()))]
