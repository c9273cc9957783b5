"""The benchmarks, short: what they ask for holds in CI too. Each is a real installation with real processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(script: str, *arguments: str, seconds: float = 280) -> Any:
    """Run a benchmark as a person would, and give its JSON."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert done.returncode in {0, 1}, done.stderr
    return json.loads(done.stdout)


def test_swaps_and_rollbacks_under_load_lose_nothing() -> None:
    """20 swaps and 20 rollbacks: 0 failed, 0 wrong, 0 hung, 0 attributed to another version."""
    result = run("swaps.py", "--swaps", "20")
    assert {"failed": 0, "wrong": 0, "hung": 0, "misattributed": 0} == {n: result[n] for n in ("failed", "wrong", "hung", "misattributed")}
    assert result["versions_seen"] == 21
    assert result["asked"] > 1000


@pytest.mark.system
def test_an_alert_restores_the_last_good_version_and_its_repetitions_change_nothing() -> None:
    """With real Prometheus and Alertmanager at 1 s: within 4 s at the median; repeated, late and stale alerts do nothing."""
    if shutil.which("prometheus") is None or not (shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")):
        pytest.skip("Prometheus or Alertmanager is not installed (Debian: apt-get install prometheus prometheus-alertmanager)")
    result = run("alerts.py", "--repeat", "3")
    assert result["median_seconds"] <= 4
    assert {"failed_after_restore": 0, "wrong": 0, "changed_by_repeats": 0} == {
        name: result[name] for name in ("failed_after_restore", "wrong", "changed_by_repeats")
    }
    assert {1} == {own["restored"] for own in result["runs"]}


@pytest.mark.timeout(600)
def test_kill_at_every_write_of_deploy_and_rollback_leaves_a_state_the_table_allows() -> None:
    """Before and after every fsync, rename and commit of the gateway."""
    result = run("crash_points.py", seconds=580)
    assert [] == result["problems"]
    assert result["crashes"] > 20


def test_killing_gateway_replica_and_command_line_is_survived() -> None:
    """Six kills, two of each, at random moments."""
    result = run("kills.py", "--kills", "6")
    assert [] == result["problems"]
    assert result["kills"] >= 4  # a command line may have ended before its moment
