"""Recorded rollouts judged again, and the page of a decision."""

import json
import random
from typing import Any

import pytest

from lastgood.errors import IntegrityError
from lastgood.monitoring.judge.page import write_page
from lastgood.monitoring.judge.receipt import write_receipt
from lastgood.monitoring.judge.replay import list_moments, read_log, replay
from lastgood.monitoring.judge.trace import Mark, mark
from lastgood.monitoring.judge.verdict import JudgePolicy, RoleCounts, StepCounts, judge

POLICY = JudgePolicy()
STRICT = JudgePolicy(alpha=1e-6)
LAX = JudgePolicy(alpha=0.1)


def withdraw(policy: JudgePolicy, rate: float = 1.0) -> dict[str, Any]:
    """Play a canary at 10 % whose candidate fails at a rate, until it is out; give the receipt after a trip through JSON."""
    coin = random.Random(5)  # noqa: S311 - a simulation
    counts, marks = [0, 0, 0], list[Mark]()
    while True:
        if coin.random() < 0.1:
            counts[0] += 1
            counts[1] += coin.random() < rate
        else:
            counts[2] += 1
        steps = [StepCounts(0.1, RoleCounts(counts[0], counts[0], failed=counts[1]), RoleCounts(counts[2], counts[2]))]
        mark(marks, steps)
        verdict = judge(steps, policy, has_baseline=True)
        if verdict.decision == "bad":
            receipt = write_receipt(steps, policy, verdict, has_baseline=True, marks=marks)
            return dict(json.loads(json.dumps(receipt)))


def event(position: int, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"position": position, "kind": kind, "model": "digits", "payload": {"version": 2, **payload}}


def counts(failed: int, requests: int) -> list[dict[str, Any]]:
    role = {"requests": requests, "batches": requests, "failed": 0}
    return [{"share": 0.5, "candidate": {**role, "failed": failed}, "baseline": role}]


def test_the_policy_it_had_decides_at_the_same_request() -> None:
    """Replaying a withdrawal by its own policy gives its verdict at its end."""
    receipt = withdraw(POLICY, rate=0.3)
    (recorded,) = read_log([event(9, "withdrawn", {"receipt": receipt})])
    again = replay(recorded, POLICY)
    assert again.at is not None
    assert ("bad", list_moments(receipt)[-1].requests) == (again.verdict.decision, again.at.requests)


def test_a_laxer_promise_decides_earlier_and_a_stricter_one_not_yet() -> None:
    """With a hundred times the alpha fewer bad answers are needed; with a thousandth more than were given."""
    (recorded,) = read_log([event(1, "withdrawn", {"receipt": withdraw(POLICY, rate=0.3)})])
    early, own = replay(recorded, LAX).at, replay(recorded, POLICY).at
    assert early is not None
    assert own is not None
    assert early.requests < own.requests
    assert early.broken < own.broken
    assert replay(recorded, STRICT).at is None


def test_rollouts_without_a_receipt_are_judged_at_their_changes_of_state() -> None:
    """A version that went stable: a stricter ratio would have found it at the second change, which is said to be inexact."""
    log = [
        event(3, "rollout-stable", {"counts": counts(30, 2_000)}),
        event(1, "rollout-canary", {"counts": []}),
        event(2, "rollout-soaking", {"counts": counts(1, 1_000)}),
        event(4, "rollout-canary", {"version": 3, "counts": counts(0, 10)}),
    ]
    stable, running = read_log(log)
    assert ("rollout-stable", False, 2) == (stable.decided, stable.exact, len(stable.moments))
    assert ("running", 3) == (running.decided, running.version)
    found = replay(stable, POLICY)
    assert found.at is not None
    assert (4_000, 30) == (found.at.requests, found.at.broken)


@pytest.mark.parametrize("log", [[{"kind": "withdrawn"}], [3], [event(1, "rollout-stable", {"counts": [{"share": 0.1}]})]])
def test_something_else_than_a_log_is_refused(log: list[Any]) -> None:
    """The message says what was expected."""
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_log(log)


def test_the_page_draws_the_evidence_and_escapes_what_it_shows() -> None:
    """One file with a picture and the counts; the same receipt gives the same bytes."""
    receipt = withdraw(POLICY)
    page = write_page("withdrawn digits@2", [("why", "<script>alert(1)</script>")], receipt)
    assert page == write_page("withdrawn digits@2", [("why", "<script>alert(1)</script>")], receipt)
    assert "<svg" in page
    assert "<script>" not in page
    assert "Recomputed: bad (broken); recorded: bad (broken)." in page


def test_the_page_says_so_where_the_receipt_was_changed() -> None:
    """A decision that cannot be computed again is drawn, and not believed."""
    receipt = withdraw(POLICY)
    receipt["steps"][0]["candidate"]["failed"] = 0
    assert "They do not agree" in write_page("withdrawn digits@2", [], receipt)
