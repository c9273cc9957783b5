"""Configuration files for Prometheus and Alertmanager, written for one gateway."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lastgood.monitoring.signals import names
from lastgood.monitoring.signals.people import INHIBITIONS, build_people
from lastgood.monitoring.signals.rules import build_rules
from lastgood.oncall import OnCall


@dataclass(frozen=True, slots=True)
class Signals:
    """
    Who scrapes and calls whom.

    Addresses are host:port. Scraping and evaluating each second costs a small gateway under 1 % of a core and brings an
    alert from a bad metric to its receiver in about 1.5 s; Prometheus' default of a minute takes 150.
    """

    gateway: str
    alertmanager: str
    interval_seconds: float = 1.0
    token_file: Path | None = None  # as Prometheus and Alertmanager see it
    oncall: OnCall = field(default_factory=OnCall)

    @property
    def window(self) -> str:
        """How long rates look back: three scrapes, so that one missed scrape is no gap and half of them are soon bad ones."""
        return _duration(3 * self.interval_seconds)


def write_configuration(folder: Path, signals: Signals) -> None:
    """Write ``prometheus.yml``, ``rules.yml`` and ``alertmanager.yml`` into the folder."""
    write_prometheus(folder, signals)
    write_alertmanager(folder, signals)


def write_prometheus(folder: Path, signals: Signals) -> bool:
    """Write ``prometheus.yml`` and ``rules.yml`` into the folder; say whether one of them changed."""
    written = [_write(folder / "prometheus.yml", prometheus(signals)), _write(folder / "rules.yml", rules(signals))]
    return any(written)


def write_alertmanager(folder: Path, signals: Signals) -> bool:
    """Write ``alertmanager.yml`` into the folder; say whether it changed."""
    return _write(folder / "alertmanager.yml", alertmanager(signals))


def rules(signals: Signals) -> dict[str, Any]:
    """Give the rule file."""
    return {"groups": [{"name": "lastgood", "rules": [rule.to_yaml(signals.oncall.runbooks) for rule in build_rules(signals.window)]}]}


def prometheus(signals: Signals) -> dict[str, Any]:
    """Give Prometheus' configuration; the rule file lies beside it."""
    scrape: dict[str, Any] = {"job_name": names.JOB, "static_configs": [{"targets": [signals.gateway]}]}
    if signals.token_file is not None:
        scrape["authorization"] = {"credentials_file": str(signals.token_file)}
    interval = _duration(signals.interval_seconds)
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval, "scrape_timeout": interval},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [signals.alertmanager]}]}]},
        "scrape_configs": [scrape],
    }


def alertmanager(signals: Signals) -> dict[str, Any]:
    """
    Give Alertmanager's configuration: every alert goes to the gateway, at once; to people by severity and after a while.

    Alertmanager re-sends what still fires; the gateway takes each alert as a level, so that does no harm.
    """
    webhook: dict[str, Any] = {"url": f"http://{signals.gateway}/alerts", "send_resolved": True}
    if signals.token_file is not None:
        webhook["http_config"] = {"authorization": {"credentials_file": str(signals.token_file)}}
    routes, receivers = build_people(signals.oncall)
    route: dict[str, Any] = {
        "receiver": "lastgood",
        "group_by": ["alertname", "model", "version"],
        "group_wait": "0s",
        "group_interval": _duration(signals.interval_seconds),
        "repeat_interval": "1m",
    }
    if routes:
        # First and for everything; the root alone would get only what no other route takes.
        route["routes"] = [{"receiver": "lastgood", "continue": True}, *routes]
    return {
        "route": route,
        "inhibit_rules": [inhibition.to_yaml() for inhibition in INHIBITIONS],
        "receivers": [{"name": "lastgood", "webhook_configs": [webhook]}, *receivers],
    }


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _write(path: Path, value: dict[str, Any]) -> bool:
    text = yaml.safe_dump(value, sort_keys=False, width=140)
    if path.is_file() and path.read_text("utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(text, "utf-8")
    fresh.replace(path)  # at once: Prometheus may be reading it
    return True
