"""
Alert rules, written from the table of metric names.

Every rule has a label ``action``: ``rollback`` switches at once, ``compare`` makes the rollout careful, ``none`` only
tells people. A rule that may roll back asks that no other version of the model suffers the same: then the version is
not to blame.

Rules about what is known of answers only afterwards are in `late_rules`. A new rule is an entry here or there, a page
``docs/runbooks/NAME.md`` and a case in tests/monitoring/test_rules.py; if it follows from another one, a line in
`lastgood.monitoring.signals.people`.
"""

from typing import Final

from lastgood.monitoring.signals import names
from lastgood.monitoring.signals.late_rules import build_late_rules
from lastgood.monitoring.signals.rule import Rule

_ANSWERED: Final = "ok|failed|invalid|timeout"
FULL_BYTES: Final = 500 << 20  # a registration or a night of events still fits


def _ratio(outcomes: str, window: str) -> str:
    bad = f'sum by (model, version) (rate({names.REQUESTS.name}{{outcome=~"{outcomes}"}}[{window}]))'
    answered = f'sum by (model, version) (rate({names.REQUESTS.name}{{outcome=~"{_ANSWERED}"}}[{window}]))'
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


def _of_role(role: str, by: str) -> str:
    bad, answered = (
        f'sum by ({by}) (rate({names.REQUESTS.name}{{role="{role}",outcome=~"{outcomes}"}}[1m]))'
        for outcomes in ("failed|invalid|timeout", _ANSWERED)
    )
    return f"({bad} / {answered})"


def _worse() -> str:
    """Keep a candidate that answers badly more than twice as often as the baseline beside it, and two in a hundred more."""
    baseline = f"(2 * {_of_role('baseline', 'model')} + 0.02)"
    often = f'sum by (model, version) (increase({names.REQUESTS.name}{{role="candidate",outcome=~"failed|invalid|timeout"}}[1m])) > 10'
    return f"{_of_role('candidate', 'model, version')} > on (model) group_left () {baseline} and ({often})"


def _restarts() -> str:
    died = f"increase({names.REPLICA_DEATHS.name}[{{}}])"
    return f"{died.format('5m')} >= 3 unless {died.format('1m')} >= 5"


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
            _routed(f"{_ratio('failed|invalid|timeout', '1m')} > 0.02 {_often('failed|invalid|timeout', '1m')}"),
            "5s",
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
            "LastgoodCandidateWorse",
            _routed(_worse()),
            "15s",
            "warning",
            "compare",
            "{{ $labels.model }}@{{ $labels.version }} gives {{ $value | humanizePercentage }} bad answers, its baseline far fewer.",
        ),
        Rule(
            "LastgoodReplicaRestarts",
            _restarts(),
            "0s",
            "warning",
            "none",
            "Replicas of {{ $labels.model }}@{{ $labels.version }} died {{ $value | humanize }} times within five minutes.",
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
        Rule(
            "LastgoodEventChainBroken",
            f"{names.CHAIN_BROKEN.name} == 1",
            "0s",
            "critical",
            "none",
            "The event log that {{ $labels.instance }} reads is not what was written: somebody or a disk changed it.",
        ),
        *build_late_rules(),
    ]
