"""Prefect deployments: registered with a real server, and one run by a real worker."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lastgood.ports import free_ports
from lastgood.registry.registry import Registry
from lastgood.settings import Settings
from lastgood.stack.processes import Stack
from lastgood.stack.services import build_services, prefect_environment

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Prefect server of this test's own; gives the environment that reaches it."""
    (port,) = free_ports(1)
    settings = Settings(project=tmp_path, home=tmp_path / "home", port_prefect=port)
    (service,) = build_services(settings, only=("prefect",))[0]
    stack = Stack(settings.home)
    stack.start(service)
    try:
        yield {**os.environ, **prefect_environment(settings), "LASTGOOD_HOME": str(settings.home)}
    finally:
        stack.stop("prefect")


def prefect(environment: dict[str, str], *arguments: str, seconds: float = 240) -> str:
    """Run Prefect's own command line in the repository, and give what it prints."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_the_deployments_are_taken_by_a_server_and_one_runs(server: dict[str, str], tmp_path: Path) -> None:
    """Every deployment of prefect.yaml is registered with its parameters' schema; `release` registers a version."""
    prefect(server, "work-pool", "create", "lastgood", "--type", "process")
    prefect(server, "deploy", "--all")
    wanted = [
        f"{own['entrypoint'].partition(':')[2]}/{own['name']}" for own in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    ]
    listed = prefect(server, "deployment", "ls")
    assert [name for name in wanted if name not in listed] == []
    parameters = json.dumps({"model": "tumour", "deploy": False, "overrides": {"recipe": "fp32", "epochs": "15"}, "why": "by a worker"})
    prefect(server, "deployment", "run", "release/release", "--params", parameters)
    prefect(server, "worker", "start", "--pool", "lastgood", "--run-once")
    with Registry.open(Settings(project=tmp_path, home=tmp_path / "home"), writer="test") as registry:
        version = registry.resolve("tumour@1")
        assert "by a worker" == registry.record(version.digest).why
