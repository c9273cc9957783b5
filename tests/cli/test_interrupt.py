"""Ctrl-C while a flow runs: exit code 130 and where the rollout stands, whichever end is seen first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys
import httpx
from lastgood.cli import run
from lastgood.cli import flow as module
import lastgood.flows.release as release

def interrupted(*arguments, **named):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    finally:
        if {server_ends}:  # the temporary server is in the same group and dies of the same Ctrl-C
            raise httpx.ConnectError("gone")

release.release = interrupted
sys.exit(run(["release", "digits", "--no-deploy"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("server_ends", [True, False])
def test_an_interrupted_release_says_so(tmp_path: Path, server_ends: bool) -> None:  # noqa: FBT001
    """Not that a server went away."""
    environment = {**os.environ, "LASTGOOD_HOME": str(tmp_path / "home")}
    script = SCRIPT.replace("{server_ends}", str(server_ends))
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert 130 == done.returncode, done.stderr
    assert "goes on without this command" in done.stderr
    assert "went away" not in done.stderr
