"""The whole path as a user walks it: README's own pipeline, real processes, a canary, a rollback, a flipped bit."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lastgood.ports import free_ports

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


class User:
    """Somebody in a folder with a pipeline and the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("rest", "control", "prefect", "prometheus", "alertmanager")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("LASTGOOD_", "PREFECT_"))}
        self.environment = {**clean, **{f"LASTGOOD_PORT_{name.upper()}": str(port) for name, port in self.ports.items()}}
        (folder / "wine.py").write_text(PIPELINE, "utf-8")
        (folder / "lastgood.toml").write_text(SETTINGS, "utf-8")

    def run(self, *arguments: str, code: int = 0, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lastgood", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False)
        assert code == done.returncode, f"{arguments}: {done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def read(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    somebody = User(tmp_path)
    somebody.run("up", "gateway", "prefect")
    try:
        yield somebody
    finally:
        somebody.run("down")
        left = [
            process for process in psutil.process_iter(["environ"]) if (process.info["environ"] or {}).get("LASTGOOD_HOME") == str(tmp_path)
        ]
        assert [] == left


def test_release_canary_rollback_and_a_flipped_bit(user: User) -> None:
    """Everything README promises, in the order a team would meet it."""
    first = user.run("release", "wine", "-m", "first version", "--traffic", "evaluation", "--wait", "stable")
    assert "wine@1 sha256:" in first.stdout
    (curl,) = [line for line in first.stdout.splitlines() if line.startswith("curl ")]
    (place,) = re.findall(r"largest number should be at place (\d+)", first.stdout)
    answer = json.loads(subprocess.run(shlex.split(curl), capture_output=True, text=True, timeout=20, check=True).stdout)
    numbers = answer["outputs"][0]["data"]
    assert int(place) == numbers.index(max(numbers))
    assert "1" == answer["model_version"]

    user.run("release", "wine", "-m", "more trees", "--set", "trees=60", "--traffic", "evaluation", "--wait", "stable")
    states = [event["kind"] for event in user.read("log", "wine") if event["kind"].startswith("rollout")]
    assert {"rollout-canary", "rollout-soaking", "rollout-stable"} <= set(states)
    metrics = subprocess.run(
        ["curl", "-s", f"http://127.0.0.1:{user.ports['control']}/metrics"], capture_output=True, text=True, timeout=20, check=True
    ).stdout
    assert re.search(r'lastgood_requests_total\{model="wine",outcome="ok",role="candidate",traffic="evaluation",version="2"\}', metrics)

    assert {"wine@2": 1.0} == serving(user)
    user.run("rollback", "wine", "-m", "support reported wrong answers")
    assert {"wine@1": 1.0} == serving(user)
    refused = user.run("deploy", "wine@2", code=3)
    assert "taken out as bad" in refused.stderr
    assert "Everything is as recorded" in user.run("verify").stdout

    live = user.read("show", "wine@live")
    model = next(file for file in live["content"]["files"] if file["path"] == "model.onnx")
    stored = next((user.folder / ".lastgood" / "registry" / "files").rglob(f"{model['sha256'][2:]}*"))
    stored.chmod(0o644)
    damaged = bytearray(stored.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    stored.write_bytes(bytes(damaged))
    found = user.run("verify", code=5)
    assert "model.onnx" in found.stdout + found.stderr
    user.run("down")
    user.run("up", "gateway")
    # The only version that may serve cannot be read: nothing is served rather than something else.
    asked = user.run("routes", "--json")
    assert [] == [lane for state in json.loads(asked.stdout) for lane in state["lanes"] if lane["ready"]]


def serving(user: User) -> dict[str, float]:
    """Who gets what."""
    return {f"{state['model']}@{lane['number']}": lane["share"] for state in user.read("routes") for lane in state["lanes"]}


def test_a_gate_that_says_no_is_exit_code_three_and_registers_nothing(user: User) -> None:
    """With a floor no model reaches."""
    (user.folder / "lastgood.toml").write_text(f"{SETTINGS}\n[models.wine.gate]\naccuracy_floor = 1.0\nmax_bytes = 10\n", "utf-8")
    refused = user.run("release", "wine", code=3)
    assert "The gate refused" in refused.stderr
    assert [] == user.read("list")
