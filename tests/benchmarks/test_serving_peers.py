"""The benchmark of serving beside other servers, short: a peer in an environment of its own, a real gateway, wrk."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (Debian: apt-get install wrk)"),
]


def run(*arguments: str, **environment: str) -> Any:
    """Run it as a person would, and give its JSON."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "serving" / "run.py"), "--json", "--interpreted", "--models", "mlp", *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error", **environment},
    )
    assert done.returncode in {0, 1}, done.stderr
    return json.loads(done.stdout)


def test_a_peer_is_measured_in_turns_with_a_gateway_that_splits_and_judges(tmp_path: Path) -> None:
    """Both give every answer, and what each request costs is known of both."""
    result = run("--peers", "fastapi", "--pairs", "1", "--seconds", "1", XDG_CACHE_HOME=str(tmp_path))
    assert [] == result["missing"]
    assert [1, 64] == [record["connections"] for record in result["records"]]
    for record in result["records"]:
        (pair,) = record["pairs"]
        for side in ("ours", "peer"):
            assert 0 == pair[side]["failed"]
            assert pair[side]["per_second"] > 100
            assert 1e-6 < pair[side]["cpu_seconds"] < 0.1
            assert 0 < pair[side]["p50_seconds"] <= pair[side]["p99_seconds"]
    assert {"fastapi", "onnxruntime"} <= set(result["versions"]["fastapi"])
    assert (tmp_path / "lastgood-bench" / "fastapi" / "bin" / "python").exists()


def test_a_peer_that_cannot_be_installed_is_named_with_the_reason(tmp_path: Path) -> None:
    """It is never left out in silence."""
    offline = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "empty"), "XDG_CACHE_HOME": str(tmp_path)}
    result = run("--peers", "litserve", **offline)
    assert [] == result["records"]
    (missing,) = result["missing"]
    assert ("mlp", "litserve") == (missing["model"], missing["peer"])
    assert missing["why"].startswith("not installed: ")
    assert "offline" in missing["why"] or "network" in missing["why"]
    assert not (tmp_path / "lastgood-bench" / "litserve").exists()
