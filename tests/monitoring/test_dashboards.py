"""
The dashboards: what is committed is fresh and sound, and every query returns series from a real installation.

No Grafana server is at hand, so its part is played here: variables are resolved as it does, and what it would ask is
asked of a real Prometheus that scrapes a real gateway under load.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import promql_parser
import psutil
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

from lastgood.grafana.build import render
from lastgood.monitoring.signals import names
from lastgood.serving.rollout.table import State

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "grafana"
WIDTH = 1000  # pixels of a panel, a sample for each
SCRAPE_SECONDS = 1.0
NAMES = ["overview", "release"]


def read(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((FOLDER / "dashboards" / f"{name}.json").read_text("utf-8"))
    return value


@dataclass(frozen=True)
class Asked:
    """One thing Grafana would ask."""

    where: str
    expression: str
    instant: bool
    legend: str


def list_asked(dashboard: dict[str, Any]) -> list[Asked]:
    asked = [
        Asked(f"annotation {own['name']}", own["target"]["expr"], False, own["titleFormat"]) for own in dashboard["annotations"]["list"]
    ]
    asked += [
        Asked(f"panel {panel['title']} {target['refId']}", target["expr"], target["instant"], target.get("legendFormat", ""))
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
    return asked


def find_seconds(text: str) -> float:
    """Read ``now-1h``."""
    number, unit = re.fullmatch(r"now-(\d+)([smhd])", text).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def find_step(seconds: float) -> float:
    """Give the interval that Grafana rounds a pixel's time to, never below the scrape interval. Source: its rangeUtil.roundInterval."""
    pixel = seconds / WIDTH
    steps = ((1.5, 1.0), (3.5, 2.0), (7.5, 5.0), (12.5, 10.0), (17.5, 15.0), (25.0, 20.0), (45.0, 30.0), (90.0, 60.0))
    return max(SCRAPE_SECONDS, next(step for limit, step in steps if pixel < limit))


def resolve(expression: str, step: float, model: str = "scale") -> str:
    """Replace variables as Grafana does; one that is not known stays and will not parse."""
    window = max(step + SCRAPE_SECONDS, 4 * SCRAPE_SECONDS)
    return expression.replace("$__rate_interval", f"{window:g}s").replace("$__interval", f"{step:g}s").replace("$model", model)


def test_what_is_committed_is_what_the_code_writes() -> None:
    """Byte for byte, and nothing lies beside it."""
    written = render()
    found = [
        path.relative_to(FOLDER).as_posix()
        for part in ("dashboards", "provisioning")
        for path in (FOLDER / part).rglob("*")
        if path.is_file()
    ]
    assert sorted(written) == sorted(found)
    for name, text in written.items():
        assert text == (FOLDER / name).read_text("utf-8"), f"{name} is stale: python -m lastgood.grafana.build"


def test_the_states_are_the_rollouts() -> None:
    """In the same order."""
    assert names.STATES == tuple(state.value for state in State)


@pytest.mark.parametrize("name", NAMES)
def test_the_sdk_reads_what_it_wrote(name: str) -> None:
    """Nothing is lost on the way but what its annotations do not know."""
    written = read(name)
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(read(name))))
    for dashboard in (written, again):
        for annotation in dashboard["annotations"]["list"]:
            for extra in ("step", "titleFormat", "tagKeys", "useValueForTime", "target"):
                annotation.pop(extra, None)
    assert written == again


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_shows(name: str) -> None:
    """Title, description, unit, a legend where there are several series, and a place of its own."""
    panels = read(name)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert len(panel["description"]) > 30, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            several = " by (" in target["expr"] or "{{" in target.get("legendFormat", "") or target.get("format") == "table"
            assert several == bool(target.get("legendFormat") or target.get("format") == "table"), panel["title"]
        for link in panel.get("links", []):
            assert (ROOT / "docs" / "runbooks" / link["url"].removeprefix("${runbooks}/")).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_every_expression_parses_and_reads_only_metrics_we_export(name: str) -> None:
    """Without a server, by Prometheus' grammar."""
    exported = {names.UP, names.FIRING}
    for metric in names.METRICS:
        exported |= {f"{metric.name}{suffix}" for suffix in ("_bucket", "_sum", "_count")} if metric.kind == "histogram" else {metric.name}
    for asked in list_asked(read(name)):
        text = resolve(asked.expression, 5)
        promql_parser.parse(text)
        own = set(re.findall(r"\b(lastgood_\w+|up|ALERTS)\{?", re.sub(r"\"[^\"]*\"", "", text)))
        assert own, asked
        assert own <= exported, asked


class Live:
    """A Prometheus to ask, and how Grafana would ask it."""

    def __init__(self, port: int, settings: Any) -> None:
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        self.settings = settings

    def ask(self, path: str, **values: Any) -> Any:
        answer = self.http.get(path, params=values).json()
        assert "success" == answer["status"], (values, answer)
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        found: list[Any] = self.ask("/api/v1/query", query=expression)["result"]
        return found

    def find_problems(self, dashboard: dict[str, Any]) -> list[str]:
        """Say what a person at this dashboard would find empty or badly named."""
        span = find_seconds(dashboard["time"]["from"])
        step = find_step(span)
        problems = []
        for asked in list_asked(dashboard):
            text = resolve(asked.expression, step)
            if asked.instant:
                series = [(own["metric"], [own["value"]]) for own in self.query(text)]
            else:
                now = time.time()
                found = self.ask("/api/v1/query_range", query=text, start=now - span, end=now, step=step)["result"]
                series = [(own["metric"], own["values"]) for own in found]
            if not any(value != "NaN" for _, values in series for _, value in values):
                problems.append(f"{asked.where}: no series for {text}")
            named = re.findall(r"\{\{(\w+)\}\}", asked.legend)
            problems += [f"{asked.where}: no label {label}" for label in named if any(label not in metric for metric, _ in series)]
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
                if "scale" not in self.ask(f"/api/v1/label/{quote(label)}/values", **{"match[]": metric}):
                    problems.append(f"variable {variable['name']}: nothing to choose")
        return problems


@pytest.fixture(scope="module")
def live(tools: Any, programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Give an installation that has seen everything: a stable version, a death, a withdrawal, and a canary under load."""
    from lastgood.monitoring.signals.configuration import Signals, write_configuration

    folder = tmp_path_factory.mktemp("live")
    flag, place_module = folder / "bad", tools.load_benchmark("place")
    with place_module.open_place(3, start=False, build=tools.load_benchmark("sure").build_sure) as place:
        settings = place.settings
        signals = Signals(f"127.0.0.1:{settings.port_control}", f"127.0.0.1:{settings.port_alertmanager}")
        write_configuration(folder, signals)
        place.start((tools.python, str(ROOT / "benchmarks" / "toggled_gateway.py"), place.digests[2], str(flag)))
        found = Live(settings.port_prometheus, settings)
        with (
            tools.run_watchers(folder, settings.port_prometheus, settings.port_alertmanager),
            place.control() as control,
            tools.load(settings),
            found.http,
        ):

            def await_state(state: str) -> None:
                tools.wait_until(lambda: control.state("scale")["rollout"]["state"] == state, 30)

            place.deploy(control, 1)
            await_state("stable")
            replica = next(own for own in psutil.Process(place.pid()).children(recursive=True) if "replica" in " ".join(own.cmdline()))
            replica.kill()
            place.deploy(control, 2, step_requests=place_module.NEVER)
            await_state("canary")
            tools.wait_until(lambda: found.query(f'{names.ROLLOUT_STATE.name}{{version="2",state="canary"}} == 1'), 20)
            flag.touch()
            await_state("withdrawn")
            place.deploy(control, 3, step_requests=place_module.NEVER, accuracy_floor=0.5)
            await_state("canary")
            tools.wait_until(lambda: len(found.query(f'rate({names.REQUESTS.name}{{version="3",outcome="ok"}}[4s]) > 0')) > 0, 20)
            tools.wait_until(lambda: found.query(f'{names.EVIDENCE.name}{{version="3"}}'), 20)
            tools.wait_until(lambda: found.query(f'{names.LABELLED.name}{{version="3"}} > 0'), 20)
            tools.wait_until(lambda: found.query(f"{names.DRIFT_EVIDENCE.name}"), 20)
            tools.wait_until(lambda: found.query(f'{names.FIRING}{{alertname="LastgoodWithdrawn",alertstate="firing"}}'), 20)
            yield found


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_query_returns_series(name: str, live: Live) -> None:
    """Of every panel, annotation and variable."""
    assert [] == live.find_problems(read(name))


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "right", "wrong", "where"),
    [
        ("overview", "lastgood_queue_depth", "lastgood_queue_deep", "panel Waiting requests"),
        ("overview", "rate(lastgood_request_seconds_bucket", "rate(lastgood_requests_seconds_bucket", "panel Time to answer"),
        ("release", "increase(lastgood_withdrawals_total{model=", "increase(lastgood_withdrawal_total{model=", "annotation Withdrawn"),
        ("release", "label_values(lastgood_route_generation", "label_values(lastgood_route_generations", "variable model"),
        ("release", "{{kind}}", "{{sort}}", "panel How far to a verdict"),
    ],
)
def test_a_misspelt_name_is_found(name: str, right: str, wrong: str, where: str, live: Live) -> None:
    """Planted in a panel, a histogram, an annotation, a variable and a legend."""
    text = json.dumps(read(name))
    assert right in text
    problems = live.find_problems(json.loads(text.replace(right, wrong)))
    assert any(problem.startswith(where) for problem in problems), problems


@pytest.mark.system
@pytest.mark.slow
def test_the_gateway_exports_the_table_of_names_with_its_labels_and_nothing_else(live: Live) -> None:
    """So that an alert or a panel on it finds something."""
    text = httpx.get(f"{live.settings.control_url}/metrics", timeout=10).text
    found = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, family.documentation, sorted(labels))
    wanted = {own.name: (own.kind, own.help, sorted(own.labels)) for own in names.METRICS}
    assert wanted == found


@pytest.mark.system
@pytest.mark.slow
def test_every_rule_is_answered_by_a_live_prometheus(live: Live) -> None:
    """None has an error, whether it finds something or not; and the gateway is scraped."""
    groups = live.ask("/api/v1/rules")["groups"]
    assert [] == [rule["name"] for group in groups for rule in group["rules"] if rule["health"] != "ok"]
    assert [["1"]] == [[value] for _, value in (own["value"] for own in live.query(f'count({names.UP}{{job="{names.JOB}"}})'))]


@pytest.mark.system
@pytest.mark.slow
def test_a_webhook_as_grafana_sends_it_takes_the_candidate_out(live: Live) -> None:
    """Last, for it ends the rollout the others look at. The body has every field of Grafana's documentation."""
    body = grafana_body(time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime()))
    answer = httpx.post(f"{live.settings.control_url}/alerts", json=body, timeout=10)
    assert {"rollback", "ignored"} == {own["result"] for own in answer.json()["alerts"]}
    state = httpx.get(f"{live.settings.control_url}/rollouts/scale", timeout=10).json()
    assert ("withdrawn", "alert", 1) == (state["rollout"]["state"], state["rollout"]["cause"], state["live"]["number"])


def grafana_body(began: str) -> dict[str, Any]:
    labels = {"alertname": "LastgoodFailing", "grafana_folder": "lastgood", "model": "scale", "severity": "critical", "action": "rollback"}

    def alert(version: str) -> dict[str, Any]:
        return {
            "status": "firing",
            "labels": {**labels, "version": version},
            "annotations": {"summary": f"scale@{version} fails", "runbook_url": "docs/runbooks/LastgoodFailing.md"},
            "startsAt": began,
            "endsAt": "0001-01-01T00:00:00Z",
            "values": {"A": 0.97, "B": 1},
            "generatorURL": "http://grafana:3000/alerting/grafana/lastgood-failing/view?orgId=1",
            "fingerprint": "c6eadffa33fcdf37",
            "silenceURL": "http://grafana:3000/alerting/silence/new",
            "dashboardURL": "",
            "panelURL": "",
            "imageURL": "",
            "valueString": "[ var='A' labels={model=scale, version=3} value=0.97 ]",
            "orgId": 1,
        }

    return {
        "receiver": "gateway",
        "status": "firing",
        "orgId": 1,
        "alerts": [alert("3"), alert("2")],
        "groupLabels": {"alertname": "LastgoodFailing"},
        "commonLabels": labels,
        "commonAnnotations": {},
        "externalURL": "http://grafana:3000/",
        "version": "1",
        "groupKey": '{}/{action=~"rollback|compare"}:{alertname="LastgoodFailing"}',
        "truncatedAlerts": 0,
        "title": "[FIRING:2] LastgoodFailing",
        "state": "alerting",
        "message": "**Firing**",
    }
