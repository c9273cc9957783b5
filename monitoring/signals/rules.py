"""
Alert rules, written from the table of metric names.

Every rule has a label ``action``: ``rollback`` switches at once, ``compare`` makes the rollout careful, ``none`` only
tells people. A rule that may roll back asks that no other version of the model suffers the same: then the version is
not to blame.

A new rule is an entry of `build_rules`, a page ``docs/runbooks/NAME.md`` and a case in tests/monitoring/test_rules.py;
if it follows from another one, a line in `lastgood.monitoring.signals.people`.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from lastgood.monitoring.signals import names

FULL_BYTES: Final = 500 << 20  # a registration or a night of events still fits


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert: its PromQL, how long it must hold, and what it asks for."""

    name: str
    expression: str
    hold: str
    severity: Literal["critical", "warning", "info"]
    action: Literal["rollback", "compare", "none"]
    summary: str

    def to_yaml(self, runbooks: str) -> dict[str, Any]:
        """Give the form of a Prometheus rule file; ``runbooks`` is the folder or URL of the pages."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.hold,
            "labels": {"severity": self.severity, "action": self.action},
            "annotations": {"summary": self.summary, "runbook_url": link_runbook(runbooks, self.name)},
        }


def link_runbook(runbooks: str, name: str) -> str:
    """Give where the page of an alert is."""
    return f"{runbooks.rstrip('/')}/{name}.md"


def _ratio(outcomes: str, window: str) -> str:
    bad = f'sum by (model, version) (rate({names.REQUESTS.name}{{outcome=~"{outcomes}"}}[{window}]))'
    answered = f'sum by (model, version) (rate({names.REQUESTS.name}{{outcome=~"ok|failed|invalid|timeout"}}[{window}]))'
    return f"({bad} / {answered})"


def _often(outcomes: str, window: str) -> str:
    """Keep only where there were more than ten: one failure of one request is half of everything, and nothing."""
    count = f'sum by (model, version) (increase({names.REQUESTS.name}{{outcome=~"{outcomes}"}}[{window}]))'
    return f"and ({count} > 10)"


def _alone(condition: str) -> str:
    """Keep what a condition finds only where it finds one version of a model."""
    return f"({condition}) and on (model) (count by (model) ({condition}) == 1)"


def _refused(window: str) -> str:
    every = f"sum by (model) (rate({names.REQUESTS.name}[{window}]))"
    return f'(sum by (model) (rate({names.REQUESTS.name}{{outcome="refused"}}[{window}])) / {every})'


def _routed(condition: str) -> str:
    """Keep only versions that get requests now: what was taken out a moment ago is still bad in the window."""
    return f"({condition}) and on (model, version) (max by (model, version) ({names.ROUTE_SHARE.name}) > 0)"


def build_rules(window: str = "10s") -> list[Rule]:
    """
    Give the rules.

    Args:
        window: Over how long the rates of rules that roll back are taken; three scrapes or more.
    """
    quantile = f"histogram_quantile(0.99, sum by (model, version, le) (rate({names.REQUEST_SECONDS.name}_bucket[{window}])))"
    return [
        Rule(
            "LastgoodFailing",
            _alone(f"{_ratio('failed|timeout', window)} > 0.5 {_often('failed|timeout', window)}"),
            "0s",
            "critical",
            "rollback",
            "{{ $labels.model }}@{{ $labels.version }} fails {{ $value | humanizePercentage }} of its requests.",
        ),
        Rule(
            "LastgoodInvalidOutputs",
            _alone(f"{_ratio('invalid', window)} > 0.2 {_often('invalid', window)}"),
            "0s",
            "critical",
            "rollback",
            "{{ $labels.model }}@{{ $labels.version }} gives {{ $value | humanizePercentage }} answers that are not finite.",
        ),
        Rule(
            "LastgoodCrashLoop",
            _alone(f"increase({names.REPLICA_DEATHS.name}[1m]) >= 5"),
            "0s",
            "critical",
            "rollback",
            "Replicas of {{ $labels.model }}@{{ $labels.version }} died {{ $value | humanize }} times within a minute.",
        ),
        Rule(
            "LastgoodErrorRatio",
            _routed(f"{_ratio('failed|invalid|timeout', '1m')} > 0.05 {_often('failed|invalid|timeout', '1m')}"),
            "15s",
            "warning",
            "compare",
            "{{ $labels.model }}@{{ $labels.version }} answers {{ $value | humanizePercentage }} of its requests badly.",
        ),
        Rule(
            "LastgoodLatency",
            _routed(f"{quantile} > 1"),
            "15s",
            "warning",
            "compare",
            "{{ $labels.model }}@{{ $labels.version }} takes {{ $value | humanizeDuration }} at the 99th percentile.",
        ),
        Rule(
            "LastgoodReplicaDown",
            _routed(f"{names.REPLICA_READY.name} == 0"),
            "10s",
            "critical",
            "none",
            "{{ $labels.model }}@{{ $labels.version }} is routed to and has no replica that is ready.",
        ),
        Rule(
            "LastgoodNoTraffic",
            f"(sum by (model) (rate({names.REQUESTS.name}[5m])) == 0) and on (model) (sum by (model) ({names.ROUTE_SHARE.name}) > 0)",
            "10m",
            "info",
            "none",
            "Nobody has asked {{ $labels.model }} for anything in 15 minutes: it is neither healthy nor bad.",
        ),
        Rule(
            "LastgoodGatewayDown",
            f'{names.UP}{{job="{names.JOB}"}} == 0',
            "5s",
            "critical",
            "none",
            "The gateway {{ $labels.instance }} does not answer its scrapes.",
        ),
        Rule(
            "LastgoodRefusing",
            f"{_refused('1m')} > 0.01",
            "30s",
            "warning",
            "none",
            "{{ $labels.model }} refuses {{ $value | humanizePercentage }} of its requests: more come than it can answer in time.",
        ),
        Rule(
            "LastgoodDiskFull",
            f"{names.FREE.name} < {FULL_BYTES}",
            "0s",
            "critical",
            "none",
            "{{ $value | humanize1024 }}B are free where {{ $labels.instance }} writes: soon nothing can be registered or recorded.",
        ),
        Rule(
            "LastgoodWithdrawn",
            f"increase({names.WITHDRAWALS.name}[5m]) > 0",
            "0s",
            "warning",
            "none",
            "A version of {{ $labels.model }} was taken out (cause: {{ $labels.cause }}); the last good one serves.",
        ),
        Rule(
            "LastgoodFrozen",
            f"{names.FROZEN.name} == 1",
            "0s",
            "critical",
            "none",
            "{{ $labels.model }} is frozen after repeated withdrawals and takes no release until a person unfreezes it.",
        ),
        Rule(
            "LastgoodPersonNeeded",
            f"increase({names.PAGES.name}[5m]) > 0",
            "0s",
            "critical",
            "none",
            "{{ $labels.model }} needs a person: see lastgood log {{ $labels.model }}.",
        ),
        Rule(
            "LastgoodUnrecorded",
            f"{names.UNRECORDED.name} > 0",
            "1m",
            "warning",
            "none",
            "Decisions of {{ $labels.instance }} have not reached the shared record for a minute.",
        ),
    ]
