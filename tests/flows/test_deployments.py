"""Prefect deployments: registered with a real server, looked at by doctor, and run by a real worker."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from lastgood.doctor.project import examine_triggers
from lastgood.pipelines.health import Finding
from lastgood.ports import free_ports
from lastgood.registry.registry import Registry
from lastgood.settings import Settings
from lastgood.stack.processes import Stack
from lastgood.stack.services import build_services, environment, prefect_environment

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A project with this repository's prefect.yaml and a Prefect server of its own."""
    ports = dict(zip(("port_prefect", "port_rest", "port_control"), free_ports(3), strict=True))
    settings = Settings(project=tmp_path, home=tmp_path / "home", **ports)  # type: ignore[arg-type]
    (tmp_path / "lastgood.toml").write_text('[models.tumour.update]\nschedule = "* * * * *"\n', "utf-8")
    (tmp_path / "prefect.yaml").write_bytes((ROOT / "prefect.yaml").read_bytes())
    (service,) = build_services(settings, only=("prefect",))[0]
    stack = Stack(settings.home)
    stack.start(service)
    try:
        yield settings
    finally:
        stack.stop("prefect")


def prefect(settings: Settings, *arguments: str, seconds: float = 300) -> str:
    """Run Prefect's own command line in the project, and give what it prints."""
    own = {"PWD": str(settings.project), "PYTHONPATH": str(ROOT / "src"), **environment(settings), **prefect_environment(settings)}
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    run = subprocess.run(
        command, cwd=settings.project, env={**os.environ, **own}, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert 0 == run.returncode, run.stdout + run.stderr
    return run.stdout


def examine(settings: Settings) -> dict[str, Finding]:
    return {own.name: own for own in examine_triggers(settings)}


def test_deployments_are_taken_looked_at_and_run(settings: Settings) -> None:
    """Doctor names what is missing at each step; two releases of one model wait for each other; a report finds no gateway."""
    first = examine(settings)["deployments"]
    assert ("warning", True) == (first.status, "work-pool create lastgood" in first.sentence)
    prefect(settings, "work-pool", "create", "lastgood", "--type", "process")
    prefect(settings, "deploy", "--name", "rollback")
    assert "prefect deploy --all" in examine(settings)["deployment release/release"].sentence
    prefect(settings, "deploy", "--all")
    names = [f"{own['name']}/{own['name']}" for own in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]]
    found = examine(settings)
    assert ["ok"] * len(names) == [found[f"deployment {name}"].status for name in names]
    assert "runs at 0 6 * * *" in found["deployment health/health"].sentence
    assert "No worker of pool 'lastgood' is awake" in found["worker"].sentence
    await_runs(settings, {"type": {"any_": ["SCHEDULED"]}}, none=False)  # the server has planned the next reports

    changes = {"recipe": "fp32", "epochs": "15"}
    parameters = json.dumps({"model": "tumour", "deploy": False, "overrides": changes, "why": "by a worker"})
    for _ in range(2):
        prefect(settings, "deployment", "run", "release/release", "--params", parameters)
    prefect(settings, "deployment", "run", "health/health")
    prefect(settings, "deployment", "run", "updates/updates")
    prefect(settings, "worker", "start", "--pool", "lastgood", "--run-once", "--limit", "5")
    await_runs(settings, {"type": {"any_": ["PENDING", "RUNNING"]}}, none=True)  # the worker may end before what it started
    with Registry.open(settings, writer="test") as registry:
        # Had they run at once, both would have taken the seed of version 1, and there would be one version.
        seeds = [registry.record(registry.resolve(f"tumour@{number}").digest).seed for number in (1, 2)]
        assert [1, 2] == seeds
        assert "by a worker" == registry.record(registry.resolve("tumour@1").digest).why
    listed = json.loads(prefect(settings, "flow-run", "ls", "--limit", "200", "--output", "json"))
    ended = [own for own in listed if own["state"]["type"] != "SCHEDULED"]
    states = [own for own in ended if own["name"].startswith(("release", "health"))]
    assert ["COMPLETED", "COMPLETED", "FAILED"] == sorted(own["state"]["type"] for own in states)
    (report,) = [own for own in states if own["state"]["type"] == "FAILED"]
    assert "No gateway answers" in report["state"]["message"]

    # The model whose schedule was due could not be released, and the run that started it says so.
    message = next(own["state"]["message"] for own in ended if own["name"] == "updates" and own["state"]["type"] == "FAILED")
    assert "tumour: GatewayAwayError: No gateway answers" in message

    break_each(settings)


def await_runs(settings: Settings, state: dict[str, Any], *, none: bool) -> None:
    """Wait until the server has a flow run in such a state, or none any more."""
    end = time.monotonic() + 120
    with httpx.Client(base_url=f"http://127.0.0.1:{settings.port_prefect}/api", timeout=20) as client:
        while none == bool(client.post("/flow_runs/count", json={"flow_runs": {"state": state}}).json()):
            assert time.monotonic() < end
            time.sleep(0.5)


def break_each(settings: Settings) -> None:
    """Every way a deployment can have gone stale is a sentence before its run."""
    prefect(settings, "work-pool", "pause", "lastgood")
    assert "is paused" in examine(settings)["work pool"].sentence
    file = settings.project / "prefect.yaml"
    sound = file.read_text("utf-8")
    file.write_text(sound.replace("lastgood.flows.health.health", "lastgood.flows.health.wealth"), "utf-8")
    assert "cannot be loaded" in examine(settings)["deployment health"].sentence
    file.write_text(sound.replace("model: digits", "model: dogits"), "utf-8")
    prefect(settings, "deploy", "--name", "release")
    assert "There is no pipeline for 'dogits'" in examine(settings)["deployment release/release"].sentence
    file.write_text(sound.replace("{{ $PWD }}", str(settings.project / "moved")), "utf-8")
    prefect(settings, "deploy", "--name", "rollback")
    assert "which does not exist here" in examine(settings)["deployment rollback/rollback"].sentence
    file.write_text("deployments: 3", "utf-8")
    assert "cannot be read" in examine(settings)["deployments"].sentence
