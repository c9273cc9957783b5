"""
How people are told: receivers, routes and inhibition for Alertmanager, from the ``[oncall]`` settings.

The gateway's own webhook comes first, gets everything at once and waits for nobody: it has a route of its own. People
are told by severity, one message for all that happens to a model, and only after a while: most of what goes bad is
taken back before that.

An inhibited alert reaches nobody, the gateway included. So nothing here mutes an alert with ``action="rollback"``, and
one with ``action="compare"`` only falls silent beside a rollback of the same version.
"""

from dataclasses import dataclass
from typing import Any, get_args

from lastgood.oncall import Email, OnCall, PagerDuty, Severity, Slack, Webhook

_SUMMARIES = "{{ range .Alerts }}{{ .Annotations.summary }}\n{{ .Annotations.runbook_url }}\n{{ end }}"
_TITLE = "[{{ .Status | toUpper }}] {{ range $i, $a := .Alerts }}{{ if $i }}, {{ end }}{{ $a.Labels.alertname }}{{ end }}"


@dataclass(frozen=True, slots=True)
class Inhibition:
    """While ``source`` fires, ``target`` with the same values of ``equal`` is told to nobody."""

    source: str  # regular expression of alert names
    target: tuple[str, ...]  # matchers
    equal: tuple[str, ...]

    def to_yaml(self) -> dict[str, Any]:
        """Give Alertmanager's form."""
        return {"source_matchers": [f'alertname=~"{self.source}"'], "target_matchers": list(self.target), "equal": list(self.equal)}


INHIBITIONS: tuple[Inhibition, ...] = (
    # A version that is taken out for failing fails in every other way too.
    Inhibition(
        "LastgoodFailing|LastgoodInvalidOutputs|LastgoodCrashLoop",
        ('alertname=~"LastgoodErrorRatio|LastgoodLatency|LastgoodCandidateWorse|LastgoodReplicaDown|LastgoodReplicaRestarts"',),
        ("model", "version"),
    ),
    # What freezes a model also asks for a person.
    Inhibition("LastgoodFrozen", ('alertname="LastgoodPersonNeeded"',), ("model", "instance")),
    # Who takes nothing is also behind, and writes nothing; and nothing is written to a full disk.
    Inhibition("LastgoodObserverDown", ('alertname=~"LastgoodObserverBehind|LastgoodPredictionsUnwritten"',), ("instance",)),
    Inhibition("LastgoodDiskFull", ('alertname="LastgoodPredictionsUnwritten"',), ("instance",)),
    # What was last seen of a gateway that is away says nothing more.
    Inhibition("LastgoodGatewayDown", ('alertname!="LastgoodGatewayDown"', 'action="none"'), ("instance",)),
)


def build_people(oncall: OnCall) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Give the routes and the receivers of people, by severity; both empty where nobody is to be told."""
    routes, receivers = [], []
    for severity in get_args(Severity):
        receiver: dict[str, Any] = {"name": f"people-{severity}"}
        for table, own in oncall.receivers.items():
            if severity in own.severities:
                receiver[f"{table}_configs"] = [_build(own, oncall)]
        if len(receiver) > 1:
            receivers.append(receiver)
            routes.append(
                {
                    "receiver": receiver["name"],
                    "matchers": [f'severity="{severity}"'],
                    "group_by": ["model"],
                    "group_wait": f"{round(oncall.wait_seconds * 1000)}ms",
                    "group_interval": f"{round(oncall.update_seconds * 1000)}ms",
                    "repeat_interval": f"{round(oncall.repeat_hours * 3600)}s",
                }
            )
    return routes, receivers


def _build(receiver: object, oncall: OnCall) -> dict[str, Any]:
    match receiver:
        case Email():
            return _email(receiver)
        case Slack():
            return _slack(receiver)
        case PagerDuty():
            return _pagerduty(receiver, oncall)
        case Webhook():
            return _webhook(receiver)
    raise AssertionError(receiver)


def _email(email: Email) -> dict[str, Any]:
    value: dict[str, Any] = {
        "to": ", ".join(email.to),
        "from": email.sender,
        "smarthost": email.smarthost,
        "hello": email.hello,
        "require_tls": email.require_tls,
        "headers": {"Subject": _TITLE},
        "text": _SUMMARIES,
        "send_resolved": True,
    }
    if email.password_file is not None:
        value |= {"auth_username": email.username, "auth_password_file": str(email.password_file)}
    return value


def _slack(slack: Slack) -> dict[str, Any]:
    texts = {"title": _TITLE, "text": _SUMMARIES, "fallback": _TITLE, "title_link": "{{ (index .Alerts 0).Annotations.runbook_url }}"}
    return {"api_url_file": str(slack.api_url_file), "channel": slack.channel, "send_resolved": True, **texts}


def _pagerduty(pagerduty: PagerDuty, oncall: OnCall) -> dict[str, Any]:
    value: dict[str, Any] = {
        "routing_key_file": str(pagerduty.routing_key_file),
        "url": pagerduty.url,
        "client": "lastgood",
        "severity": '{{ if eq .CommonLabels.severity "critical" }}critical{{ else }}warning{{ end }}',
        "description": "{{ (index .Alerts 0).Annotations.summary }}",
        "details": {"summaries": _SUMMARIES},
        "send_resolved": True,
    }
    if oncall.runbooks.startswith(("http://", "https://")):  # others are no links to PagerDuty, which then refuses the event
        value["links"] = [{"href": "{{ (index .Alerts 0).Annotations.runbook_url }}", "text": "runbook"}]
    return value


def _webhook(webhook: Webhook) -> dict[str, Any]:
    value: dict[str, Any] = {"url": webhook.url, "send_resolved": True}
    if webhook.token_file is not None:
        value["http_config"] = {"authorization": {"credentials_file": str(webhook.token_file)}}
    return value
