"""
The kinds of panels the dashboards are made of, so that all of one kind look and read alike.

Every panel has a title that asks a question or names a figure, a description that says what is normal, a unit, and a
legend. A panel that watches what an alert watches links to the alert's runbook.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from lastgood.monitoring.signals.names import STATES

SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
WINDOW: Final = "$__rate_interval"
GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = "green", "yellow", "orange", "red", "blue", "purple", "#808080"
_STATE_COLORS: Final = {"staged": GREY, "shadow": PURPLE, "canary": YELLOW, "soaking": BLUE, "stable": GREEN, "withdrawn": RED}

Panel = bargauge.Panel | stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel
P = TypeVar("P", bound=Panel)
Steps = Sequence[tuple[float | None, str]]  # from which value on, which colour; the first from None


@dataclass(frozen=True, slots=True)
class Query:
    """One expression and how its series are called."""

    expression: str
    legend: str = ""
    kind: Literal["range", "instant", "table"] = "range"

    def build(self, index: int) -> prometheus.Dataquery:
        """Give the SDK's form; ``index`` counts the panel's queries."""
        query = prometheus.Dataquery().expr(self.expression).ref_id("ABCDEFGHIJ"[index]).datasource(SOURCE)
        if self.kind == "range":
            return query.range().legend_format(self.legend)
        query = query.instant().legend_format(self.legend)
        return query.format(PromQueryFormat.TABLE) if self.kind == "table" else query


def build_number(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str = "short",
    steps: Steps = ((None, GREEN),),
    texts: Mapping[str, tuple[str, str]] | None = None,
    none: str = "no data",
    runbook: str | None = None,
    span: int = 4,
) -> stat.Panel:
    """
    Give one or a few large figures.

    Args:
        title: What it is.
        description: What is normal, and what else means.
        query: An instant query, or a range of which the last value is shown.
        unit: Grafana's unit.
        steps: Colours.
        texts: For a value, the text that stands for it and its colour.
        none: What is shown where there is no series.
        runbook: Name of the alert whose page belongs to it.
        span: Columns, of 24.
    """
    panel = _dress(stat.Panel(), title, description, [query], unit=unit, runbook=runbook).span(span).height(4).no_value(none)
    panel = panel.thresholds(_thresholds(steps)).color_mode(shapes.BigValueColorMode.BACKGROUND).graph_mode(shapes.BigValueGraphMode.NONE)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return panel.mappings(_texts(texts)) if texts else panel


def build_graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str,
    steps: Steps | None = None,
    stacked: bool = False,
    least: float | None = 0,
    most: float | None = None,
    runbook: str | None = None,
    span: int = 8,
) -> timeseries.Panel:
    """
    Give lines over time.

    Args:
        title: What it is.
        description: What is normal, and what else means.
        queries: Range queries.
        unit: Grafana's unit of the y axis.
        steps: Where the lines become alarming; drawn as lines.
        stacked: Whether the series add up to something.
        least: Lower end of the y axis; None for the data's own.
        most: Upper end.
        runbook: Name of the alert whose page belongs to it.
        span: Columns, of 24.
    """
    panel = _dress(timeseries.Panel(), title, description, queries, unit=unit, runbook=runbook).span(span).height(8)
    panel = panel.line_width(1).fill_opacity(10).show_points(shapes.VisibilityMode.NEVER)
    if least is not None:
        panel = panel.min(least)
    if most is not None:
        panel = panel.max(most)
    if steps is not None:
        panel = panel.thresholds(_thresholds(steps))
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL)).fill_opacity(60)
    legend = common.VizLegendOptions().display_mode(shapes.LegendDisplayMode.TABLE).placement(shapes.LegendPlacement.BOTTOM)
    panel = panel.legend(legend.show_legend(True).calcs(["lastNotNull", "max"]))
    return panel.tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING))


def build_states(title: str, description: str, query: Query, *, span: int = 12) -> statetimeline.Panel:
    """Give rollout states over time; the query gives a state's place in `STATES`, from 1 on."""
    panel = _dress(statetimeline.Panel(), title, description, [query], unit="short").span(span).height(8)
    legend = common.VizLegendOptions().display_mode(shapes.LegendDisplayMode.LIST).placement(shapes.LegendPlacement.BOTTOM)
    return panel.mappings(_texts(state_texts())).merge_values(True).fill_opacity(80).legend(legend.show_legend(True).calcs([]))


def build_gauges(title: str, description: str, query: Query, *, unit: str, steps: Steps, most: float, span: int = 8) -> bargauge.Panel:
    """Give a bar for each series, from zero to ``most``."""
    panel = _dress(bargauge.Panel(), title, description, [query], unit=unit).span(span).height(8).min(0).max(most)
    panel = panel.thresholds(_thresholds(steps)).orientation(shapes.VizOrientation.HORIZONTAL).no_value("no rollout is judged now")
    return panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))


def build_table(
    title: str, description: str, query: Query, *, hidden: Sequence[str], order: Sequence[str], link: tuple[str, str] | None, span: int = 12
) -> table.Panel:
    """
    Give a table of a query's series, a column for each label.

    Args:
        title: What it is.
        description: What is normal, and what else means.
        query: An instant query.
        hidden: Labels that say nothing here.
        order: Columns from the left.
        link: A column, and where its cells lead.
        span: Columns, of 24.
    """
    panel = _dress(table.Panel(), title, description, [query], unit="short").span(span).height(7).no_value("none")
    options = {"excludeByName": dict.fromkeys(hidden, True), "indexByName": {name: index for index, name in enumerate(order)}}
    panel = panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=options))
    if link is not None:
        column, url = link
        target: list[dict[str, Any]] = [{"title": "Runbook", "url": url, "targetBlank": True}]
        panel = panel.override_by_name(column, [model.DynamicConfigValue("links", target)])
    return panel


def state_texts() -> dict[str, tuple[str, str]]:
    """Give text and colour of each state's number."""
    return {str(number): (state, _STATE_COLORS[state]) for number, state in enumerate(STATES, start=1)}


def _dress(panel: P, title: str, description: str, queries: Sequence[Query], *, unit: str, runbook: str | None = None) -> P:
    panel.title(title).description(description).datasource(SOURCE).unit(unit)
    for index, query in enumerate(queries):
        panel.with_target(query.build(index))
    if runbook is not None:
        link = dashboard.DashboardLink(f"Runbook: {runbook}").type(model.DashboardLinkType.LINK)
        panel.links([link.url(f"${{runbooks}}/{runbook}.md").target_blank(True)])
    return panel


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    made = [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def _texts(texts: Mapping[str, tuple[str, str]]) -> list[model.ValueMapping]:
    results = {
        value: model.ValueMappingResult(text=text, color=color, index=index) for index, (value, (text, color)) in enumerate(texts.items())
    }
    return [model.ValueMap(options=results)]
