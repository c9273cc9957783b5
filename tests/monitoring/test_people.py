"""Whom Alertmanager tells: routes by severity, inhibition, and an incident played with the real programs."""

import contextlib
import dataclasses
import re
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lastgood.monitoring.signals import names
from lastgood.monitoring.signals.configuration import Signals, alertmanager, write_configuration
from lastgood.monitoring.signals.people import INHIBITIONS
from lastgood.monitoring.signals.rules import build_rules
from lastgood.oncall import Email, OnCall, PagerDuty, Slack, Webhook
from lastgood.ports import free_ports

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Secrets:
    """Files with what must be in no configuration."""

    password: Path
    slack: Path
    key: Path
    token: Path


def write_secrets(folder: Path, slack: str = "https://hooks.example.org/services/T0/B0/verysecret") -> Secrets:
    secrets = Secrets(folder / "password", folder / "slack", folder / "key", folder / "token")
    for path, text in ((secrets.password, "hunter2"), (secrets.slack, slack), (secrets.key, "r" * 32), (secrets.token, "t0ken")):
        path.write_text(f"{text}\n", "utf-8")
    return secrets


def everybody(secrets: Secrets, **changes: Any) -> OnCall:
    email = {"to": ("a@example.org",), "from": "b@example.org", "smarthost": "127.0.0.1:25", "username": "u"}
    return OnCall(
        email=Email.model_validate({**email, "password_file": secrets.password}),
        slack=Slack(api_url_file=secrets.slack, channel="#alerts"),
        pagerduty=PagerDuty(routing_key_file=secrets.key),
        webhook=Webhook(url="http://127.0.0.1:1/hook", token_file=secrets.token),
        **changes,
    )


def test_no_secret_is_in_what_is_written(tmp_path: Path) -> None:
    """Only the names of their files are."""
    secrets = write_secrets(tmp_path)
    write_configuration(tmp_path / "signals", Signals("127.0.0.1:1", "127.0.0.1:2", token_file=secrets.token, oncall=everybody(secrets)))
    written = "".join(path.read_text("utf-8") for path in (tmp_path / "signals").iterdir())
    for path in dataclasses.astuple(secrets):
        assert path.read_text("utf-8").strip() not in written
        assert str(path) in written


def test_without_oncall_everything_goes_to_the_gateway_alone() -> None:
    """The local stack asks for nothing."""
    written = alertmanager(Signals("127.0.0.1:8002", "127.0.0.1:19093"))
    assert "routes" not in written["route"]
    assert ["lastgood"] == [receiver["name"] for receiver in written["receivers"]]


def test_inhibition_keeps_no_rollback_from_the_gateway_and_a_comparison_only_beside_one() -> None:
    """An inhibited alert reaches nobody, so what lastgood acts on must never be one."""
    actions = {rule.name: rule.action for rule in build_rules()}
    for inhibition in INHIBITIONS:
        assert set(inhibition.source.split("|")) <= set(actions)
        tests = [re.fullmatch(r'(\w+)(=~|!=|=)"(.*)"', matcher) for matcher in inhibition.target]
        matched = {name for name in actions if all(test and matches(test, {"alertname": name, "action": actions[name]}) for test in tests)}
        assert matched
        assert "rollback" not in {actions[name] for name in matched}
        if "compare" in {actions[name] for name in matched}:
            assert {"rollback"} == {actions[name] for name in inhibition.source.split("|")}
            assert ("model", "version") == inhibition.equal


def matches(test: re.Match[str], labels: dict[str, str]) -> bool:
    label, operator, value = test.groups()
    return {"=": labels[label] == value, "!=": labels[label] != value, "=~": bool(re.fullmatch(value, labels[label]))}[operator]


@pytest.mark.system
@pytest.mark.parametrize(
    ("severity", "told"),
    [("critical", "lastgood,people-critical"), ("warning", "lastgood,people-warning"), ("info", "lastgood"), ("", "lastgood")],
)
def test_amtool_routes_by_severity_and_always_to_the_gateway_first(tmp_path: Path, severity: str, told: str) -> None:
    """PagerDuty is told of what is critical only."""
    if shutil.which("amtool") is None:
        pytest.skip("amtool is not installed (Debian: apt-get install prometheus-alertmanager)")
    write_configuration(tmp_path, Signals("127.0.0.1:8002", "127.0.0.1:19093", oncall=everybody(write_secrets(tmp_path))))
    config = f"--config.file={tmp_path / 'alertmanager.yml'}"
    for command in (
        ["check-config", str(tmp_path / "alertmanager.yml")],
        ["config", "routes", "test", config, f"severity={severity}", "model=m"],
    ):
        done = subprocess.run(["amtool", *command], capture_output=True, text=True, timeout=30, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr
    assert told == done.stdout.strip()
    receivers = {receiver["name"]: receiver for receiver in yaml.safe_load((tmp_path / "alertmanager.yml").read_text("utf-8"))["receivers"]}
    assert "pagerduty_configs" in receivers["people-critical"]
    assert "pagerduty_configs" not in receivers["people-warning"]


class Exporter:
    """A gateway's metrics, invented: what an incident looks like to Prometheus can be played and ended at will."""

    def __init__(self) -> None:
        self.rates: dict[str, float] = {}
        self.values: dict[str, float] = {}
        self.down = False
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def set(self, *, rates: dict[str, float], values: dict[str, float]) -> None:
        with self._lock:
            self._advance()
            self.rates.update(rates)
            self.values.update(values)

    def text(self) -> bytes | None:
        with self._lock:
            self._advance()
            return None if self.down else "".join(f"{series} {value}\n" for series, value in self.values.items()).encode()

    def _advance(self) -> None:
        now = time.monotonic()
        for series, rate in self.rates.items():
            self.values[series] = self.values.get(series, 0.0) + rate * (now - self._at)
        self._at = now


LABELS = 'model="m",version="1"'
OK = f'{names.REQUESTS.name}{{{LABELS},role="live",traffic="production",outcome="ok"}}'
FAILED = f'{names.REQUESTS.name}{{{LABELS},role="live",traffic="production",outcome="failed"}}'
DEATHS = f"{names.REPLICA_DEATHS.name}{{{LABELS}}}"
READY = f"{names.REPLICA_READY.name}{{{LABELS}}}"
SHARE = f'{names.ROUTE_SHARE.name}{{{LABELS},role="live"}}'
PAGES = f'{names.PAGES.name}{{model="m"}}'
GOOD: dict[str, dict[str, float]] = {"rates": {OK: 100, FAILED: 0, DEATHS: 0}, "values": {READY: 1, SHARE: 1}}
BAD: dict[str, dict[str, float]] = {"rates": {OK: 1, FAILED: 100, DEATHS: 20}, "values": {READY: 0, PAGES: 1}}


@pytest.mark.system
@pytest.mark.slow
def test_an_incident_of_many_alerts_pages_once_and_is_resolved_once(tmp_path: Path, tools: Any, programs: None) -> None:
    """The only version of a model dies under load: five rules fire; then it heals; then the gateway goes away.

    The mail server is away at first, and the mail comes when it is back.
    """
    exporter = Exporter()
    exporter.set(**GOOD)
    exporter.set(rates={}, values={PAGES: 0})
    gateway, slack, pager, hook = tools.Sink(give=exporter.text), tools.Sink(), tools.PagerDutySink(), tools.Sink()
    ports = free_ports(2)
    mail = tools.MailSink()
    with contextlib.ExitStack() as stack:
        for sink in (gateway, slack, pager, hook):
            stack.enter_context(sink.listen())
        secrets = write_secrets(tmp_path, slack=f"{slack.url}/services/T0/B0/secret")
        oncall = OnCall(
            wait_seconds=4,
            update_seconds=15,
            email=Email.model_validate(
                {"to": ["a@example.org"], "from": "b@example.org", "smarthost": f"127.0.0.1:{mail.port}", "require_tls": False}
            ),
            slack=Slack(api_url_file=secrets.slack, channel="#alerts"),
            pagerduty=PagerDuty(routing_key_file=secrets.key, url=f"{pager.url}/v2/enqueue"),
            webhook=Webhook(url=f"{hook.url}/hook", token_file=secrets.token, severities=("critical",)),
        )
        oncall.check_secrets()
        write_configuration(tmp_path, Signals(f"127.0.0.1:{gateway.port}", f"127.0.0.1:{ports[1]}", oncall=oncall))
        rules = tmp_path / "rules.yml"
        # The same rules, but what looks back for minutes looks back for seconds: the incident must end within the test.
        rules.write_text(
            re.sub(r"\[[15]m\]", "[8s]", rules.read_text("utf-8")).replace("for: 15s", "for: 2s").replace("for: 10s", "for: 2s"), "utf-8"
        )
        with tools.run_watchers(tmp_path, *ports):
            tools.wait_until(lambda: exporter.values.get(OK, 0) > 800, 30)  # Prometheus has a history
            began = time.monotonic()
            exporter.set(**BAD)
            tools.wait_until(lambda: heard(gateway, "firing") >= {"LastgoodFailing", "LastgoodCrashLoop", "LastgoodPersonNeeded"}, 10)
            assert time.monotonic() - began < 6  # the gateway is told at once, people wait
            tools.wait_until(lambda: pager.pages and slack.posts and hook.posts, 15)
            stack.enter_context(mail.listen())
            tools.wait_until(lambda: mail.mails, 20)
            time.sleep(3)  # what follows from it fires now too, and is told to nobody
            firing = {alert["labels"]["alertname"] for alert in active(ports[1], inhibited=True)}
            assert firing >= {"LastgoodErrorRatio", "LastgoodReplicaDown"}
            assert not heard(gateway, "firing") & firing
            assert [1, 1, 1, 1] == [len(pager.pages), len(slack.posts), len(mail.mails), len(hook.posts)]
            exporter.set(**GOOD)
            tools.wait_until(lambda: pager.resolved, 60)
            tools.wait_until(lambda: len(slack.posts) > 1 and len(mail.mails) > 1, 10)
            assert [1, 1, 0] == [len(pager.pages), pager.resolved, len(pager.open)]
            exporter.down = True
            tools.wait_until(lambda: len(pager.pages) > 1, 40)
    assert 2 == len(pager.pages)
    assert "does not answer its scrapes" in pager.pages[1]
    titles = [post.body["attachments"][0]["title"] for post in slack.posts]
    assert 1 == sum(title.startswith("[RESOLVED]") for title in titles)
    assert "docs/runbooks/Lastgood" in slack.posts[0].body["attachments"][0]["text"]
    subjects = [str(found["Subject"]) for found in mail.mails]
    assert 1 == sum("RESOLVED" in subject for subject in subjects)
    assert "Lastgood" in subjects[0]
    assert {"Bearer t0ken"} == {post.authorization for post in hook.posts}


def heard(gateway: Any, status: str) -> set[str]:
    """Names of the alerts the gateway's webhook was told of."""
    return {alert["labels"]["alertname"] for post in list(gateway.posts) for alert in post.body["alerts"] if alert["status"] == status}


def active(port: int, *, inhibited: bool) -> list[dict[str, Any]]:
    import httpx

    found = httpx.get(f"http://127.0.0.1:{port}/api/v2/alerts", params={"active": "false", "inhibited": str(inhibited).lower()}, timeout=5)
    alerts: list[dict[str, Any]] = found.json()
    return [alert for alert in alerts if alert["status"]["inhibitedBy"]]


@pytest.mark.system
@pytest.mark.slow
def test_with_a_dead_mail_server_the_rollback_still_comes_within_seconds_and_wakes_nobody(
    tmp_path: Path, tools: Any, programs: None
) -> None:
    """A real gateway whose stable version goes bad; the mail server takes connections and never says a word."""
    place_module = tools.load_benchmark("place")
    flag, pager, slack = tmp_path / "bad", tools.PagerDutySink(), tools.Sink()
    with socket.create_server(("127.0.0.1", 0)) as tarpit, pager.listen(), slack.listen(), place_module.open_place(2, start=False) as place:
        secrets = write_secrets(tmp_path, slack=f"{slack.url}/services/T0/B0/secret")
        oncall = OnCall(
            wait_seconds=6,
            email=Email.model_validate(
                {"to": ["a@example.org"], "from": "b@example.org", "smarthost": f"127.0.0.1:{tarpit.getsockname()[1]}"}
            ),
            slack=Slack(api_url_file=secrets.slack, channel="#alerts"),
            pagerduty=PagerDuty(routing_key_file=secrets.key, url=f"{pager.url}/v2/enqueue"),
        )
        settings = place.settings
        write_configuration(
            tmp_path, Signals(f"127.0.0.1:{settings.port_control}", f"127.0.0.1:{settings.port_alertmanager}", oncall=oncall)
        )
        command = (tools.python, str(ROOT / "benchmarks" / "toggled_gateway.py"), place.digests[2], str(flag))
        place.start(command)
        with (
            tools.run_watchers(tmp_path, settings.port_prometheus, settings.port_alertmanager),
            place.control() as control,
            tools.load(settings),
        ):
            for number in (1, 2):
                place.deploy(control, number)
                tools.wait_until(lambda: control.state("scale")["rollout"]["state"] == "stable", 30)
            time.sleep(6)  # Prometheus begins to scrape some 5 s after its start
            flag.touch()
            began = time.monotonic()
            tools.wait_until(lambda: control.state("scale")["rollout"]["state"] == "withdrawn", 15)
            seconds = time.monotonic() - began
            assert control.state("scale")["rollout"]["cause"] == "alert"
            tools.wait_until(lambda: slack.posts, 20)
    assert seconds < 8
    assert [] == pager.pages
    (title,) = [post.body["attachments"][0]["title"] for post in slack.posts]
    assert "[FIRING] LastgoodWithdrawn" == title
