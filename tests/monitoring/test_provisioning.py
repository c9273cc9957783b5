"""
Grafana's provisioning files, and the configurations for containers.

No Grafana server is at hand. The models below are a schema written from Grafana's documentation ("Provision Grafana",
"Create and manage alerting resources using file provisioning"): names, types and closed lists; unknown names are errors.
"""
# ruff: noqa: N815 - the names are Grafana's

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lastgood.grafana.alerting import SOURCE_UID
from lastgood.monitoring.signals.__main__ import COMPOSE
from lastgood.monitoring.signals.configuration import write_configuration
from lastgood.monitoring.signals.rules import build_rules

ROOT = Path(__file__).parents[2]
PROVISIONING = ROOT / "grafana" / "provisioning"
Uid = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,40}$")]
Duration = Annotated[str, Field(pattern=r"^\d+(ms|s|m|h|d)$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class Source(Strict):
    name: str
    type: Literal["prometheus"]
    access: Literal["proxy", "direct"]
    uid: Uid
    url: str
    isDefault: bool
    editable: bool
    jsonData: dict[str, Any]


class Sources(Strict):
    apiVersion: Literal[1]
    datasources: list[Source]


class Provider(Strict):
    name: str
    orgId: int
    folder: str
    type: Literal["file"]
    disableDeletion: bool
    allowUiUpdates: bool
    updateIntervalSeconds: int
    options: dict[Literal["path", "foldersFromFilesStructure"], str | bool]


class Providers(Strict):
    apiVersion: Literal[1]
    providers: list[Provider]


class WebhookSettings(Strict):
    url: str
    httpMethod: Literal["POST", "PUT"]
    authorization_scheme: str
    authorization_credentials: str
    maxAlerts: str


class AlertmanagerSettings(Strict):
    url: str


class Webhook(Strict):
    uid: Uid
    type: Literal["webhook"]
    disableResolveMessage: bool
    settings: WebhookSettings


class Alertmanager(Strict):
    uid: Uid
    type: Literal["prometheus-alertmanager"]
    settings: AlertmanagerSettings


class ContactPoint(Strict):
    orgId: int
    name: str
    receivers: list[Annotated[Webhook | Alertmanager, Field(discriminator="type")]]


class ContactPoints(Strict):
    apiVersion: Literal[1]
    contactPoints: list[ContactPoint]


class Route(Strict):
    receiver: str
    object_matchers: list[tuple[str, Literal["=", "!=", "=~", "!~"], str]] = []
    group_by: list[str] = []
    group_wait: Duration = "30s"
    group_interval: Duration = "5m"
    repeat_interval: Duration = "4h"
    goes_on: bool = Field(default=False, alias="continue")
    routes: list["Route"] = []


class Policy(Route):
    orgId: int


class Policies(Strict):
    apiVersion: Literal[1]
    policies: list[Policy]


class Data(Strict):
    refId: str
    relativeTimeRange: dict[Literal["from", "to"], int]
    datasourceUid: str
    model: dict[str, Any]


class Rule(Strict):
    uid: Uid
    title: str
    condition: str
    data: list[Data]
    noDataState: Literal["NoData", "Alerting", "OK", "KeepLast"]
    execErrState: Literal["Error", "Alerting", "OK", "KeepLast"]
    held: Duration = Field(alias="for")
    isPaused: bool
    labels: dict[str, str]
    annotations: dict[str, str]


class Group(Strict):
    orgId: int
    name: str
    folder: str
    interval: Annotated[str, Field(pattern=r"^\d*0s$")]  # whole tens of seconds
    rules: list[Rule]


class Groups(Strict):
    apiVersion: Literal[1]
    groups: list[Group]


SCHEMAS: dict[str, type[Strict]] = {
    "datasources/lastgood.yaml": Sources,
    "dashboards/lastgood.yaml": Providers,
    "alerting/contact-points.yaml": ContactPoints,
    "alerting/policies.yaml": Policies,
    "alerting/rules.yaml": Groups,
}


def read(name: str) -> Any:
    return yaml.safe_load((PROVISIONING / name).read_text("utf-8"))


def check(name: str, value: Any) -> Any:
    # By way of JSON, where a list may stand for a tuple.
    return SCHEMAS[name].model_validate_json(json.dumps(value))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_provisioning_file_is_what_grafana_documents(name: str) -> None:
    """And a misspelt name in it would be found."""
    value = read(name)
    check(name, value)
    (entries,) = (value[key] for key in value if key != "apiVersion")
    entries[0]["nmae"] = "x"
    with pytest.raises(ValidationError):
        check(name, value)


def test_no_provisioning_file_is_without_a_schema() -> None:
    """A new one would be unchecked."""
    assert sorted(SCHEMAS) == sorted(path.relative_to(PROVISIONING).as_posix() for path in PROVISIONING.rglob("*.yaml"))


def test_contact_points_policies_rules_and_data_sources_name_each_other() -> None:
    """Grafana refuses to start with a policy whose receiver it does not know."""
    points = {point.name for point in check("alerting/contact-points.yaml", read("alerting/contact-points.yaml")).contactPoints}
    (policy,) = check("alerting/policies.yaml", read("alerting/policies.yaml")).policies
    assert {policy.receiver, *(route.receiver for route in policy.routes)} == points
    rules = [rule for group in check("alerting/rules.yaml", read("alerting/rules.yaml")).groups for rule in group.rules]
    assert {SOURCE_UID, "__expr__"} == {data.datasourceUid for rule in rules for data in rule.data}
    assert [SOURCE_UID] == [source["uid"] for source in read("datasources/lastgood.yaml")["datasources"]]
    for rule in rules:
        assert rule.condition in {data.refId for data in rule.data}


def test_one_incident_pages_once() -> None:
    """What Prometheus has a rule for is paused in Grafana; what rolls back is there for those who turn it on."""
    rules = {rule["title"]: rule for group in read("alerting/rules.yaml")["groups"] for rule in group["rules"]}
    own = {rule.name: rule for rule in build_rules()}
    assert {"LastgoodNotWatched"} == {name for name, rule in rules.items() if not rule["isPaused"]}
    assert {rule.name for rule in own.values() if rule.action == "rollback"} == set(rules) - {"LastgoodNotWatched"}
    for name in set(rules) & set(own):
        assert own[name].expression == unescape(rules[name]["data"][0]["model"]["expr"])
        assert {"severity": own[name].severity, "action": own[name].action} == rules[name]["labels"]


def test_every_dollar_that_is_not_grafanas_own_is_written_twice() -> None:
    """Grafana expands variables of its environment in these files; a lone one would become nothing."""
    for name in ("alerting/rules.yaml", "alerting/policies.yaml"):
        text = (PROVISIONING / name).read_text("utf-8")
        assert "$" not in text.replace("$$", "")
    assert "{{ $labels.model }}" in unescape(str(read("alerting/rules.yaml")))
    (secret,) = re.findall(r"\$\S+", (PROVISIONING / "alerting" / "contact-points.yaml").read_text("utf-8"))
    assert "$__file{/run/secrets/lastgood_token}" == secret


def unescape(text: str) -> str:
    return text.replace("$$", "$")


def test_the_committed_configurations_for_containers_are_fresh(tmp_path: Path) -> None:
    """As the program writes them: python -m lastgood.monitoring.signals deploy/signals."""
    done = subprocess.run(
        [sys.executable, "-m", "lastgood.monitoring.signals", str(tmp_path / "own")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    committed = ROOT / "deploy" / "signals"
    assert sorted(path.name for path in committed.iterdir()) == sorted(path.name for path in (tmp_path / "own").iterdir())
    for path in committed.iterdir():
        assert path.read_text("utf-8") == (tmp_path / "own" / path.name).read_text("utf-8"), path.name


@pytest.mark.system
def test_the_configurations_for_containers_pass_their_programs_own_check(tmp_path: Path) -> None:
    """With service names and a secret's path that exists only in the container."""
    if shutil.which("promtool") is None or shutil.which("amtool") is None:
        pytest.skip("promtool or amtool is not installed (Debian: apt-get install prometheus prometheus-alertmanager)")
    write_configuration(tmp_path, COMPOSE)
    assert "scrape_interval: 1000ms" in (tmp_path / "prometheus.yml").read_text("utf-8")
    for command in (["promtool", "check", "config", "--syntax-only", "prometheus.yml"], ["amtool", "check-config", "alertmanager.yml"]):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr
