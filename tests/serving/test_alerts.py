"""Alerts: levels, not orders."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.serving.gateway.rollouts.alerts import InvalidAlertError, read_webhook, rule
from lastgood.serving.gateway.rollouts.state import ModelState, step, submit
from lastgood.serving.rollout.table import EventKind, Pin, Rollout

BEGAN = datetime(2026, 5, 1, tzinfo=UTC)
PIN = Pin(1, "sha256:" + "1" * 64)
STATE = submit(ModelState("m"), Rollout("r", "m", PIN, None, None), BEGAN).state
STATE = step(STATE, EventKind.READY, BEGAN).state


def webhook(*, status: str = "firing", began: datetime = BEGAN + timedelta(seconds=5), **labels: str) -> bytes:
    alert = {"status": status, "labels": {"alertname": "A", **labels}, "annotations": {"summary": "s"}, "startsAt": began.isoformat()}
    # As Alertmanager sends it, with what is not read here.
    return json.dumps({"version": "4", "status": status, "receiver": "lastgood", "alerts": [alert], "externalURL": "http://x"}).encode()


def ruled(body: bytes) -> tuple[str, str]:
    (alert,) = read_webhook(body)
    ruling = rule(alert, {"m": STATE})
    return ruling.result, ruling.reason


def test_a_firing_alert_on_what_serves_now_is_acted_on() -> None:
    """Model, version and action, within the serving episode."""
    assert ruled(webhook(model="m", version="1", action="rollback")) == ("rollback", "A: s")
    assert ruled(webhook(model="m", version="1", action="compare")) == ("compare", "A: s")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (webhook(status="resolved", model="m", version="1", action="rollback"), "resolved"),
        (webhook(model="m", version="1"), "action"),
        (webhook(model="m", action="rollback"), "names no model and version"),
        (webhook(version="1", action="rollback"), "names no model and version"),
        (webhook(model="m", version="one", action="rollback"), "names no model and version"),
        (webhook(model="other", version="1", action="rollback"), "no model 'other'"),
        (webhook(model="m", version="2", action="rollback"), "m@2 serves nothing"),
        (webhook(model="m", version="1", action="rollback", began=BEGAN - timedelta(seconds=1)), "before m@1 came in"),
    ],
)
def test_everything_else_is_ignored_with_its_reason(body: bytes, reason: str) -> None:
    """Resolved, without an order, about nobody, about somebody else, or about an earlier episode."""
    result, why = ruled(body)
    assert result == "ignored"
    assert reason in why


def test_an_alert_without_a_time_zone_is_utc() -> None:
    """Grafana and Alertmanager send zones; a bare time is not a local one."""
    assert (
        ruled(webhook(model="m", version="1", action="rollback", began=(BEGAN + timedelta(seconds=1)).replace(tzinfo=None)))[0]
        == "rollback"
    )


def test_an_alert_from_far_ahead_counts_for_nothing() -> None:
    """Clocks differ by seconds; a comparison that begins before its alert would begin again with each repetition of it."""
    (near,) = read_webhook(webhook(model="m", version="1", action="compare", began=BEGAN + timedelta(minutes=10)))
    (far,) = read_webhook(webhook(model="m", version="1", action="rollback", began=BEGAN + timedelta(days=1)))
    assert "compare" == rule(near, {"m": STATE}, BEGAN).result
    ruling = rule(far, {"m": STATE}, BEGAN)
    assert ("ignored", True) == (ruling.result, "set the clocks right" in ruling.reason)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["alerts", "labels", "status", "startsAt", "x"]), inner),
)


@given(st.one_of(st.binary(), JSON.map(lambda value: json.dumps(value).encode())))
def test_no_body_does_worse_than_a_sentence(body: bytes) -> None:
    """Whatever arrives is read, or refused with what was expected."""
    try:
        alerts = read_webhook(body)
    except InvalidAlertError as exc:
        assert "Expected the JSON" in str(exc)  # noqa: PT017
    else:
        assert all(alert.model is None or isinstance(alert.model, str) for alert in alerts)
