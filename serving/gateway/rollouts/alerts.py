"""
Alerts from outside, read strictly and trusted little.

Alertmanager and Grafana send the same shape (webhook, version 4): a list of alerts, re-sent while they fire. An alert
is a level, not an order: it may come twice, late, out of order, or speak of a version that no longer serves. So it only
counts if it fires, names a model and a version that serves now, and began within that version's serving episode; one that
asks for a comparison only if it began after the last one did.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from lastgood.errors import UsageError
from lastgood.serving.gateway.rollouts.state import ModelState
from lastgood.serving.rollout.table import Pin

Action = Literal["rollback", "compare", "none"]
AHEAD: Final = timedelta(hours=1)  # clocks may differ by less


class InvalidAlertError(UsageError):
    """A body that is no Alertmanager or Grafana webhook."""

    code = "alerts.invalid"


class _Alert(msgspec.Struct):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    startsAt: datetime  # noqa: N815 - Alertmanager's name
    annotations: dict[str, str] = {}
    fingerprint: str = ""


class _Webhook(msgspec.Struct):
    alerts: list[_Alert]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert, as far as it concerns us."""

    name: str
    firing: bool
    model: str | None
    version: int | None
    action: Action
    began: datetime
    summary: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Ruling:
    """What an alert means for the present route: the version it convicts or suspects, or why it changes nothing."""

    result: Literal["rollback", "compare", "ignored"]
    reason: str
    pin: Pin | None = None


def read_webhook(body: bytes) -> list[Alert]:
    """
    Read a webhook of Alertmanager or Grafana.

    Raises:
        InvalidAlertError: The body is not one.
    """
    try:
        webhook = msgspec.json.decode(body, type=_Webhook)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidAlertError(f"Expected the JSON of an Alertmanager or Grafana webhook, with a list 'alerts': {exc}.") from exc
    return [_read(alert) for alert in webhook.alerts]


def _read(alert: _Alert) -> Alert:
    version = alert.labels.get("version", "")
    action = alert.labels.get("action", "")
    began = alert.startsAt if alert.startsAt.tzinfo else alert.startsAt.replace(tzinfo=UTC)
    return Alert(
        name=alert.labels.get("alertname", "unnamed"),
        firing=alert.status == "firing",
        model=alert.labels.get("model"),
        version=int(version) if version.isascii() and version.isdigit() and len(version) < 10 else None,
        action="rollback" if action == "rollback" else "compare" if action == "compare" else "none",
        began=began,
        summary=alert.annotations.get("summary", "")[:500],
        fingerprint=alert.fingerprint[:64],
    )


def rule(alert: Alert, states: Mapping[str, ModelState], now: datetime | None = None) -> Ruling:
    """Say what an alert means for what serves; with ``now``, one that begins long after it counts for nothing."""
    if not alert.firing:
        return Ruling("ignored", "it is resolved")
    if now is not None and alert.began > now + AHEAD:
        return Ruling("ignored", f"it begins at {alert.began.isoformat()}, and here it is {now.isoformat()}: set the clocks right")
    if alert.action == "none":
        return Ruling("ignored", "its label 'action' is neither 'rollback' nor 'compare'")
    if alert.model is None or alert.version is None:
        return Ruling("ignored", "it names no model and version")
    state = states.get(alert.model)
    if state is None:
        return Ruling("ignored", f"no model {alert.model!r} is served here")
    split = state.split
    pin = next((pin for pin in (split.main, split.candidate) if pin is not None and pin.number == alert.version), None)
    if pin is None:
        return Ruling("ignored", f"{alert.model}@{alert.version} serves nothing now")
    since = datetime.fromisoformat(state.episodes[pin.digest])
    if alert.began < since:
        return Ruling(
            "ignored", f"it began at {alert.began.isoformat()}, before {alert.model}@{alert.version} came in at {since.isoformat()}"
        )
    compared = state.compared.get(pin.digest)
    if alert.action == "compare" and compared is not None and alert.began <= datetime.fromisoformat(compared):
        return Ruling("ignored", f"{alert.model}@{alert.version} has been compared because of it, or since: that began at {compared}")
    return Ruling(alert.action, f"{alert.name}: {alert.summary or 'no summary'}", pin)


def to_payload(alert: Alert) -> dict[str, Any]:
    """Give the alert as an event keeps it."""
    return {
        "alert": alert.name,
        "began": alert.began.isoformat(),
        "action": alert.action,
        "summary": alert.summary,
        "fingerprint": alert.fingerprint,
    }
