"""What both dashboards share: variables, annotations, links, and rows of panels."""

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from lastgood.grafana.panels import SOURCE, Panel
from lastgood.monitoring.signals import names

TAG: Final = "lastgood"


class Annotation(model.AnnotationQuery):
    """A Prometheus annotation, with the fields that the SDK's own type lacks."""

    def __init__(self, name: str, color: str, expression: str, *, title: str, tags: str, value_is_time: bool = False) -> None:
        """
        Say what is marked.

        Args:
            name: What the switch above the dashboard is called.
            color: Of the marks.
            expression: A point above zero makes a mark.
            title: Of a mark, with labels in double braces.
            tags: Labels that become tags, separated by commas.
            value_is_time: Whether the values are when it was, in milliseconds.
        """
        super().__init__(name=name, datasource=SOURCE, enable=True, icon_color=color, expr=expression)
        self._more: dict[str, object] = {
            "step": "5s",
            "titleFormat": title,
            "tagKeys": tags,
            "useValueForTime": value_is_time,
            # Newer versions read the query here.
            "target": {"expr": expression, "refId": "Anno", "range": True, "interval": "5s"},
        }

    def to_json(self) -> dict[str, object]:
        """Give the form of Grafana's Prometheus data source."""
        return {**super().to_json(), **self._more}


class _Built(Builder[model.AnnotationQuery]):
    def __init__(self, annotation: Annotation) -> None:
        self._annotation = annotation

    def build(self) -> Annotation:
        return self._annotation


def open_dashboard(uid: str, title: str, description: str, runbooks: str, *, refresh: str) -> dashboard.Dashboard:
    """Begin a dashboard: data source and runbooks as variables, a link to its sister."""
    own = dashboard.Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
    own = own.refresh(refresh).time("now-1h", "now").timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR)
    source = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus").regex("")
    own = own.with_variable(source)
    # A text that can be changed when the dashboard was imported by hand.
    own = own.with_variable(dashboard.TextBoxVariable("runbooks").label("Runbooks").default_value(runbooks))
    link = dashboard.DashboardLink("lastgood").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    return own.link(link.as_dropdown(True).include_vars(True).keep_time(True))


def annotate(own: dashboard.Dashboard, selector: str) -> dashboard.Dashboard:
    """Mark when versions came into the route and when they were taken out; ``selector`` chooses the models."""
    came = Annotation(
        "In the route",
        "green",
        f"{names.ROUTE_SINCE.name}{selector} * 1000",
        title="{{model}}@{{version}} came into the route",
        tags="model,version",
        value_is_time=True,
    )
    went = Annotation(
        "Withdrawn",
        "red",
        f"increase({names.WITHDRAWALS.name}{selector}[1m]) > 0",
        title="a version of {{model}} was taken out by {{cause}}",
        tags="model,cause",
    )
    return own.annotation(_Built(came)).annotation(_Built(went))


def add_rows(own: dashboard.Dashboard, rows: Sequence[tuple[str, Sequence[Panel]]]) -> dashboard.Dashboard:
    """Add rows of panels in this order, numbered through."""
    number = 0
    for title, panels in rows:
        number += 1
        own.with_row(dashboard.Row(title).id(number))
        for panel in panels:
            number += 1
            own.with_panel(panel.id(number))
    return own
