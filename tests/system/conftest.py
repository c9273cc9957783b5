"""Somebody in a folder of their own, with the command line and ports nobody else has."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lastgood.ports import free_ports

SERVICES = ("rest", "grpc", "control", "prefect", "prometheus", "alertmanager")


class User:
    """Somebody in a folder with the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / ".lastgood"
        self.ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("LASTGOOD_", "PREFECT_"))}
        self.environment = {**clean, **{f"LASTGOOD_PORT_{name.upper()}": str(port) for name, port in self.ports.items()}}
        (folder / "lastgood.toml").write_text("", "utf-8")

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command and do not wait for it."""
        command = [sys.executable, "-m", "lastgood", *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str, code: int = 0, seconds: float = 240) -> "subprocess.CompletedProcess[str]":
        """Run a command; fails with what it said if its exit code is another one, or it shows a traceback."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=seconds)
        finally:
            process.kill()
        done = subprocess.CompletedProcess(arguments, process.returncode, out, err)
        assert code == done.returncode, f"{arguments}: {done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def read(self, *arguments: str) -> Any:
        """Run a command and give its JSON."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def serving(self) -> dict[str, float]:
        """Who gets what."""
        return {f"{state['model']}@{lane['number']}": lane["share"] for state in self.read("routes") for lane in state["lanes"]}


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """Somebody whose stack is taken down afterwards, and who leaves no process behind."""
    somebody = User(tmp_path)
    try:
        yield somebody
    finally:
        somebody.run("down")
        left = [
            process
            for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get("LASTGOOD_HOME") == str(somebody.home)
        ]
        assert [] == left
