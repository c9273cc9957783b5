"""``lastgood explain --page`` and ``lastgood replay``, on a withdrawal that is in the log."""

import json
from pathlib import Path

import pytest

from lastgood.cli import run
from lastgood.monitoring.judge.receipt import write_receipt
from lastgood.monitoring.judge.trace import Mark, mark
from lastgood.monitoring.judge.verdict import JudgePolicy, RoleCounts, StepCounts, judge
from lastgood.registry.registry import Registry
from lastgood.settings import load_settings

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Path:
    """A registry in whose log digits@2 was taken out by the judge and digits@3 by a person; give the log as JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTGOOD_HOME", str(tmp_path / "home"))
    policy, marks = JudgePolicy(), list[Mark]()
    steps: list[StepCounts] = []
    for bad in range(1, 5):
        steps = [StepCounts(0.1, RoleCounts(bad, bad, failed=bad), RoleCounts(9 * bad, 9 * bad))]
        mark(marks, steps)
    receipt = write_receipt(steps, policy, judge(steps, policy, has_baseline=True), has_baseline=True, marks=marks)
    with Registry.open(load_settings(), writer="gateway") as registry, registry.transaction() as transaction:
        payload = {"version": 2, "cause": "judge", "why": "broken events", "receipt": receipt}
        transaction.append("withdrawn", model="digits", digest="sha256:" + "2" * 64, actor="gateway", payload=payload)
        person = {"version": 3, "cause": "person", "why": "no good"}
        transaction.append("withdrawn", model="digits", digest="sha256:" + "3" * 64, actor="ada", payload=person)
    assert run(["log", "--json"]) == 0
    path = tmp_path / "log.json"
    path.write_text(capsys.readouterr().out, "utf-8")
    return path


def test_explain_writes_the_page_beside_the_text(log: Path, capsys: Capture) -> None:
    """The text is as without; the page has the picture."""
    assert run(["explain", "1", "--page", "why.html"]) == 0
    assert "recorded: bad (broken)" in capsys.readouterr().out
    page = log.with_name("why.html").read_text("utf-8")
    assert "<svg" in page
    assert "digits@2" in page


def test_explain_has_no_page_for_a_persons_decision(log: Path, capsys: Capture) -> None:
    """There is no evidence to draw; nothing is written."""
    assert run(["explain", "2", "--page", "why.html"]) == 2
    assert "by a person or an alert" in capsys.readouterr().err
    assert not log.with_name("why.html").exists()


def test_replay_says_what_another_policy_would_have_decided(log: Path, tmp_path: Path, capsys: Capture) -> None:
    """With alpha 0.1 it is out after fewer requests, with 1e-9 it is not; the default policy decides as recorded."""
    found = {}
    for name, text in (("same", ""), ("lax", "alpha = 0.1"), ("strict", "alpha = 1e-9")):
        policy = tmp_path / f"{name}.toml"
        policy.write_text(text, "utf-8")
        assert run(["replay", str(log), "--policy", str(policy), "--json"]) == 0
        (found[name],) = json.loads(capsys.readouterr().out)
    assert (40, "bad") == (found["same"]["requests"], found["same"]["verdict"]["decision"])
    assert found["lax"]["requests"] < 40
    assert found["strict"]["requests"] is None
    assert run(["replay", str(log), "--policy", str(tmp_path / "lax.toml")]) == 0
    assert "digits@2" in capsys.readouterr().out


def test_replay_names_what_is_wrong_with_a_policy_or_a_log(log: Path, tmp_path: Path, capsys: Capture) -> None:
    """A misspelt value, and a log that is something else."""
    policy = tmp_path / "policy.json"
    policy.write_text('{"alhpa": 0.1}', "utf-8")
    assert run(["replay", str(log), "--policy", str(policy)]) == 2
    assert "alhpa" in capsys.readouterr().err
    policy.write_text("{}", "utf-8")
    log.write_text('{"no": "list"}', "utf-8")
    assert run(["replay", str(log), "--policy", str(policy)]) == 2
    assert "expected the list" in capsys.readouterr().err
