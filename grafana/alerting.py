"""
What Grafana is provisioned with: data source, dashboards, contact points, policies, and alert rules of its own.

One incident must page once. So Prometheus' rules are the ones that are on, and of Grafana's own rules only the one that
Prometheus cannot have: that nothing is heard from Prometheus. The rules that roll back are there too, paused, for an
installation with Grafana and without Alertmanager.

Grafana replaces ``$NAME`` by a variable of its environment when it reads these files; a dollar that shall stay is written
twice.
"""

from dataclasses import dataclass
from typing import Any, Final

from lastgood.monitoring.signals import names
from lastgood.monitoring.signals.rule import Rule
from lastgood.monitoring.signals.rules import build_rules

SOURCE_UID: Final = "lastgood-prometheus"
FOLDER: Final = "lastgood"

NOT_WATCHED: Final = Rule(
    "LastgoodNotWatched",
    f'count({names.UP}{{job="{names.JOB}"}})',
    "1m",
    "critical",
    "none",
    "Nothing has been heard from Prometheus for a minute: none of its alerts can fire.",
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the others are, as Grafana's server sees them."""

    gateway: str = "http://gateway:8002"
    prometheus: str = "http://prometheus:9090"
    alertmanager: str = "http://alertmanager:9093"
    token_file: str = "/run/secrets/lastgood_token"  # noqa: S105 - a path
    dashboards: str = "/etc/grafana/dashboards"


def build_datasources(addresses: Addresses) -> dict[str, Any]:
    """Give ``datasources/*.yaml``."""
    source = {
        "name": "lastgood",
        "uid": SOURCE_UID,
        "type": "prometheus",
        "access": "proxy",
        "url": addresses.prometheus,
        "isDefault": True,
        "editable": False,
        # Windows of rates follow from how often is scraped.
        "jsonData": {"httpMethod": "POST", "timeInterval": "1s", "prometheusType": "Prometheus"},
    }
    return {"apiVersion": 1, "datasources": [source]}


def build_providers(addresses: Addresses) -> dict[str, Any]:
    """Give ``dashboards/*.yaml``."""
    provider = {
        "name": "lastgood",
        "orgId": 1,
        "folder": FOLDER,
        "type": "file",
        "disableDeletion": True,
        "allowUiUpdates": False,
        "updateIntervalSeconds": 30,
        "options": {"path": addresses.dashboards},
    }
    return {"apiVersion": 1, "providers": [provider]}


def build_contact_points(addresses: Addresses) -> dict[str, Any]:
    """Give the gateway's webhook, and Alertmanager, which knows whom to tell."""
    webhook = {
        "url": f"{addresses.gateway}/alerts",
        "httpMethod": "POST",
        "authorization_scheme": "Bearer",
        "authorization_credentials": f"$__file{{{addresses.token_file}}}",
        "maxAlerts": "0",
    }
    gateway = {"uid": "lastgood-gateway", "type": "webhook", "disableResolveMessage": False, "settings": webhook}
    people = {"uid": "lastgood-people", "type": "prometheus-alertmanager", "settings": {"url": addresses.alertmanager}}
    points = [{"orgId": 1, "name": name, "receivers": [receiver]} for name, receiver in (("gateway", gateway), ("people", people))]
    return {"apiVersion": 1, "contactPoints": points}


def build_policies() -> dict[str, Any]:
    """Give the notification policies: to Alertmanager, but what the gateway acts on straight to the gateway."""
    acted_on = {
        "receiver": "gateway",
        "object_matchers": [["action", "=~", "rollback|compare"]],
        "group_by": ["alertname", "model", "version"],
        "group_wait": "0s",
        "group_interval": "10s",
        "repeat_interval": "1m",
        "continue": True,
    }
    everything = {"receiver": "people", "object_matchers": [["severity", "=~", ".+"]]}
    policy = {
        "orgId": 1,
        "receiver": "people",
        "group_by": ["alertname", "model"],
        "group_wait": "0s",
        "group_interval": "1m",
        "repeat_interval": "4h",
        "routes": [acted_on, everything],
    }
    return {"apiVersion": 1, "policies": [policy]}


def build_alert_rules(runbooks: str) -> dict[str, Any]:
    """Give the rule groups: the watch over Prometheus, on; the rules that roll back, paused."""
    watch = _rule(NOT_WATCHED, runbooks, below=1, silence="Alerting", paused=False)
    acting = [_rule(rule, runbooks, below=None, silence="OK", paused=True) for rule in build_rules() if rule.action == "rollback"]
    groups = [("lastgood-watch", [watch]), ("lastgood-rollback", acting)]
    return {
        "apiVersion": 1,
        "groups": [{"orgId": 1, "name": name, "folder": FOLDER, "interval": "10s", "rules": own} for name, own in groups],
    }


def _rule(rule: Rule, runbooks: str, *, below: float | None, silence: str, paused: bool) -> dict[str, Any]:
    """Give a rule in Grafana's form; ``silence`` is the state without data or answer, ``below`` a limit instead of "anything"."""
    query = {"refId": "A", "expr": rule.expression.replace("$", "$$"), "instant": True, "range": False, "intervalMs": 1000}
    evaluator = {"type": "gt", "params": [0]} if below is None else {"type": "lt", "params": [below]}
    test = {
        "refId": "B",
        "type": "threshold",
        "expression": "A",
        "datasource": {"type": "__expr__", "uid": "__expr__"},
        "conditions": [{"evaluator": evaluator}],
    }
    given = rule.to_yaml(runbooks)
    # A rule's own value is called $values.A.Value here, where Prometheus says $value.
    annotations = {name: text.replace("$value ", "$values.A.Value ").replace("$", "$$") for name, text in given["annotations"].items()}
    return {
        "uid": f"lastgood-{rule.name.removeprefix('Lastgood').lower()}",
        "title": rule.name,
        "condition": "B",
        "data": [
            {"refId": "A", "relativeTimeRange": {"from": 600, "to": 0}, "datasourceUid": SOURCE_UID, "model": query},
            {"refId": "B", "relativeTimeRange": {"from": 600, "to": 0}, "datasourceUid": "__expr__", "model": test},
        ],
        "noDataState": silence,
        "execErrState": silence,
        "for": rule.hold,
        "isPaused": paused,
        "labels": given["labels"],
        "annotations": annotations,
    }
