"""The whole path as a user walks it: README's own pipeline, real processes, a canary, a rollback, a flipped bit."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.system.conftest import User

ROOT = Path(__file__).parents[2]
(PIPELINE,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
SETTINGS = """
[models.wine.rollout]
steps = [0.2, 0.5]
step_requests = 20
step_seconds = 0.2
soak_requests = 40
soak_seconds = 0.5
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def wine(user: "User") -> "User":
    """Somebody with README's pipeline, and gateway and Prefect up."""
    (user.folder / "wine.py").write_text(PIPELINE, "utf-8")
    (user.folder / "lastgood.toml").write_text(SETTINGS, "utf-8")
    user.run("up", "gateway", "prefect")
    return user


def test_release_canary_rollback_and_a_flipped_bit(wine: "User") -> None:
    """Everything README promises, in the order a team would meet it."""
    first = wine.run("release", "wine", "-m", "first version", "--traffic", "evaluation", "--wait", "stable")
    assert "wine@1 sha256:" in first.stdout
    (curl,) = [line for line in first.stdout.splitlines() if line.startswith("curl ")]
    (place,) = re.findall(r"largest number should be at place (\d+)", first.stdout)
    answer = json.loads(subprocess.run(shlex.split(curl), capture_output=True, text=True, timeout=20, check=True).stdout)
    numbers = answer["outputs"][0]["data"]
    assert int(place) == numbers.index(max(numbers))
    assert "1" == answer["model_version"]

    wine.run("release", "wine", "-m", "more trees", "--set", "trees=60", "--traffic", "evaluation", "--wait", "stable")
    states = [event["kind"] for event in wine.read("log", "wine") if event["kind"].startswith("rollout")]
    assert {"rollout-canary", "rollout-soaking", "rollout-stable"} <= set(states)
    metrics = subprocess.run(
        ["curl", "-s", f"http://127.0.0.1:{wine.ports['control']}/metrics"], capture_output=True, text=True, timeout=20, check=True
    ).stdout
    assert re.search(r'lastgood_requests_total\{model="wine",outcome="ok",role="candidate",traffic="evaluation",version="2"\}', metrics)

    assert {"wine@2": 1.0} == wine.serving()
    wine.run("rollback", "wine", "-m", "support reported wrong answers")
    assert {"wine@1": 1.0} == wine.serving()
    refused = wine.run("deploy", "wine@2", code=3)
    assert "taken out as bad" in refused.stderr
    assert "Everything is as recorded" in wine.run("verify").stdout

    live = wine.read("show", "wine@live")
    model = next(file for file in live["content"]["files"] if file["path"] == "model.onnx")
    stored = next((wine.folder / ".lastgood" / "registry" / "files").rglob(f"{model['sha256'][2:]}*"))
    stored.chmod(0o644)
    damaged = bytearray(stored.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    stored.write_bytes(bytes(damaged))
    found = wine.run("verify", code=5)
    assert "model.onnx" in found.stdout + found.stderr
    wine.run("down")
    wine.run("up", "gateway")
    # The only version that may serve cannot be read: nothing is served rather than something else.
    asked = wine.run("routes", "--json")
    assert [] == [lane for state in json.loads(asked.stdout) for lane in state["lanes"] if lane["ready"]]


def test_a_gate_that_says_no_is_exit_code_three_and_registers_nothing(wine: "User") -> None:
    """With a floor no model reaches."""
    (wine.folder / "lastgood.toml").write_text(f"{SETTINGS}\n[models.wine.gate]\naccuracy_floor = 1.0\nmax_bytes = 10\n", "utf-8")
    refused = wine.run("release", "wine", code=3)
    assert "The gate refused" in refused.stderr
    assert [] == wine.read("list")
