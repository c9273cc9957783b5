"""Drills as a person plays them: real gates, gateways, replicas; each ends as it must."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def play(folder: Path, *arguments: str, code: int = 0) -> Any:
    """Play a drill and give its JSON."""
    command = [sys.executable, "-m", "lastgood", "drill", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=380, check=False)
    assert code == done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("fault", "kind", "most"), [("dead", "broken", 200), ("nan", "broken", 200), ("slow", "slow", 300)])
def test_what_is_bad_at_once_is_out_after_some_requests(tmp_path: Path, fault: str, kind: str, most: int) -> None:
    """A lone caller meets a few bad answers, and none after the switch."""
    one = play(tmp_path, fault)
    assert one["expected"].startswith(f"withdrawn by the judge: {kind}")
    assert one["found"].rpartition(" ")[2] in one["expected"].partition(": ")[2].split(" or ")
    assert (True, 0, "drill@1", "drill@2") == (one["passed"], one["failed_after_restore"], one["restored"], one["withdrawn"])
    assert one["requests_to_decision"] < most
    assert 0 < one["bad_answers"] < 20
    assert one["seconds_to_restored"] < 1
    assert kind == one["receipt"]["verdict"]["kind"]


def test_repeated_drills_have_a_summary_and_metrics(tmp_path: Path) -> None:
    """The outcomes as they are, each with its seed, and quantiles beside them."""
    many = play(tmp_path, "dead", "--repeat", "2", "--seed", "7", "--metrics", str(tmp_path / "drill.prom"))
    assert [7, 8] == [own["seed"] for own in many["outcomes"]]
    assert (2, 2) == (many["summary"]["runs"], many["summary"]["passed"])
    assert 'lastgood_drill_bad_answers{fault="dead",quantile="0.5"}' in (tmp_path / "drill.prom").read_text("utf-8")


def test_errors_now_and_then_are_found_from_few_bad_answers(tmp_path: Path) -> None:
    """2 % against none: some thousand requests."""
    one = play(tmp_path, "errors", "--seed", "1")
    assert one["passed"]
    assert one["bad_answers"] < 40


@pytest.mark.parametrize("fault", ["wrong", "flipped"])
def test_wrong_answers_are_found_by_their_labels(tmp_path: Path, fault: str) -> None:
    """Labels come as feedback; nobody else could tell."""
    one = play(tmp_path, fault, "--seed", "1")
    assert (True, 0) == (one["passed"], one["failed_after_restore"])
    assert "withdrawn by the judge: wrong" == one["found"]


def test_inputs_that_change_for_both_are_nobodys_fault(tmp_path: Path) -> None:
    """The candidate stays, and the drift is reported."""
    one = play(tmp_path, "drift")
    assert "not withdrawn, drift reported" == one["found"]
    assert (True, None, None) == (one["passed"], one["withdrawn"], one["event"])


@pytest.mark.parametrize(("fault", "kinds"), [("crash", {"deaths"}), ("leak", {"deaths", "slow"})])
def test_processes_that_die_cost_no_request(tmp_path: Path, fault: str, kinds: set[str]) -> None:
    """What a dying replica held is answered by the baseline; the deaths convict, or what taking memory costs each batch."""
    one = play(tmp_path, fault)
    assert (True, 0) == (one["passed"], one["bad_answers"])
    assert one["found"] in {f"withdrawn by the judge: {kind}" for kind in kinds}


@pytest.mark.system
def test_a_version_that_goes_bad_once_it_is_stable_is_taken_back_by_an_alert(tmp_path: Path) -> None:
    """With real Prometheus and Alertmanager."""
    if shutil.which("prometheus") is None or not (shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")):
        pytest.skip("Prometheus or Alertmanager is not installed (Debian: apt-get install prometheus prometheus-alertmanager)")
    one = play(tmp_path, "stable")
    assert "withdrawn by an alert" == one["found"]
    assert one["passed"]


def test_without_prometheus_the_late_drill_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is trained."""
    monkeypatch.setenv("PATH", "/nonexistent")
    command = [sys.executable, "-m", "lastgood", "drill", "stable"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert 7 == done.returncode
    assert "cannot be played here: Prometheus and Alertmanager not found" in done.stderr
    assert "train" not in done.stderr
