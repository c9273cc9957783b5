"""`lastgood trigger prefect` against a real server and a real worker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastgood.errors import LastgoodError
from lastgood.flows.triggers.prefect import find_exit_codes, judge
from lastgood.ports import free_ports
from lastgood.registry.registry import Registry
from lastgood.settings import Settings
from lastgood.stack.processes import Stack
from lastgood.stack.services import build_services, environment, prefect_environment

ROOT = Path(__file__).parents[2]
QUICK = ("--set", "recipe=static-int8", "--no-deploy")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Prefect server of this test's own; gives the environment that reaches it."""
    (port,) = free_ports(1)
    settings = Settings(project=tmp_path, home=tmp_path / "home", port_prefect=port)
    (service,) = build_services(settings, only=("prefect",))[0]
    stack = Stack(settings.home)
    stack.start(service)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LASTGOOD_", "PREFECT_"))}
    try:
        yield {**clean, **prefect_environment(settings), **environment(settings)}
    finally:
        stack.stop("prefect")


def call(variables: dict[str, str], *arguments: str, seconds: float = 200) -> subprocess.CompletedProcess[str]:
    """Run a module of this environment in the repository."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**variables, "PWD": str(ROOT)}, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_deployment_is_started_and_its_verdict_comes_through(server: dict[str, str], reference_digest: str, tmp_path: Path) -> None:
    """No deployment is 4, no worker 7, a release 0, a gate's refusal 3, a server that is gone 7."""

    def trigger(*arguments: str, code: int) -> str:
        done = call(server, "lastgood", "trigger", "prefect", "tumour", *QUICK, *arguments)
        assert code == done.returncode, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    assert "prefect deploy --all" in trigger(code=4)
    for step in (("work-pool", "create", "lastgood", "--type", "process"), ("deploy", "--all")):
        done = call(server, "prefect", "--no-prompt", *step)
        assert 0 == done.returncode, done.stdout + done.stderr
    assert "it is cancelled" in trigger("--wait-seconds", "2", code=7)
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "lastgood", "--type", "process"]
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=ROOT, env=server, stdout=log, stderr=log)
    try:
        assert "COMPLETED http" in trigger("--set", "epochs=15", "--seed", "3", "-m", "by prefect", code=0)
        refused = trigger("--set", "epochs=1", "--set", "learning_rate=0.000001", code=3)
        assert "The gate refused" in refused
    finally:
        worker.terminate()
        worker.wait(timeout=60)
    with Registry.open(Settings(project=tmp_path, home=tmp_path / "home"), writer="test") as registry:
        version = registry.resolve("tumour@1")
        assert "by prefect" == registry.record(version.digest).why
        assert reference_digest == version.digest
    server["PREFECT_API_URL"] = "http://127.0.0.1:1/api"
    assert "Prefect does not answer" in trigger(code=7)


@pytest.mark.parametrize(
    ("kind", "message", "code"),
    [
        ("COMPLETED", "", 0),
        ("CANCELLED", "", 130),
        ("CRASHED", "Flow run process exited with non-zero status code 1.", 7),
        ("FAILED", "Flow run encountered an exception: TakenBackError: m@2 was withdrawn (judge): dead. Now m@1 serves.", 8),
        ("FAILED", "Flow run encountered an exception: GateRefusedError: The gate refused run m.", 3),
        ("FAILED", "Flow run encountered an exception: FrozenError", 6),
        ("FAILED", "Flow run encountered an exception: KeyError: 'x'", 7),
        ("FAILED", "", 7),
    ],
)
def test_every_final_state_has_a_documented_exit_code(kind: str, message: str, code: int) -> None:
    """By the class that the message names."""
    verdict = judge(kind, message, "http://p/runs/flow-run/1")
    assert code == verdict.exit_code


def test_no_two_errors_of_one_name_have_different_codes() -> None:
    """The name of the class is all that a run's state keeps."""
    assert {"GateRefusedError": 3, "TakenBackError": 8, "GatewayAwayError": 7}.items() <= find_exit_codes().items()

    def below(kind: type[LastgoodError]) -> set[type[LastgoodError]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    codes: dict[str, set[int]] = {}
    for kind in below(LastgoodError):
        codes.setdefault(kind.__name__, set()).add(kind.exit_code)
    assert {} == {name: own for name, own in codes.items() if len(own) > 1}
