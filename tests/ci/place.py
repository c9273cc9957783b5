"""A place for builds: a repository with this tree as one commit, a home, a gateway, and somebody who sends requests."""

import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastgood.errors import LastgoodError
from lastgood.ports import free_ports
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.serving.client import Control, Predictor
from lastgood.settings import Settings
from lastgood.stack.processes import Stack
from lastgood.stack.services import build_services, environment

ROOT = Path(__file__).parents[2]
# What `make setup` would install, done: the virtual environment runs the checkout's own code with the packages of this one.
PREPARE = """#!/bin/sh
set -eu
mkdir -p .venv/bin
cat >.venv/bin/lastgood <<END
#!/bin/sh
PYTHONPATH=$PWD/src exec {python} -m lastgood "\\$@"
END
chmod +x .venv/bin/lastgood
touch .venv/.ready
"""


@dataclass(frozen=True)
class Place:
    """What the agents of a build share."""

    folder: Path
    repository: Path
    commit: str
    prepare: Path
    settings: Settings
    environment: dict[str, str]

    def version(self, ref: str) -> Version:
        """Give a registered version."""
        with Registry.open(self.settings, writer="test") as registry:
            return registry.resolve(ref)

    def commit_of(self, ref: str) -> tuple[str | None, bool | None]:
        """Give the commit that a version's record names, and whether the tree differed from it."""
        with Registry.open(self.settings, writer="test") as registry:
            record = registry.record(registry.resolve(ref).digest)
            return record.commit, record.dirty

    def state(self, model: str) -> dict[str, Any]:
        """Give the gateway's state of a model."""
        with Control(self.settings) as control:
            return control.state(model)

    def lastgood(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command as an agent would, in the repository."""
        command = [sys.executable, "-m", "lastgood", *arguments]
        return subprocess.run(command, cwd=self.repository, env=self.environment, capture_output=True, text=True, timeout=240, check=False)

    @contextmanager
    def traffic(self, model: str, width: int) -> Iterator[None]:
        """Send the model requests for as long as this is open; before it serves they are refused, which is no harm."""
        ended = threading.Event()
        rng = random.Random(1)  # noqa: S311 - rows to be answered, nothing secret

        def send() -> None:
            with Predictor(self.settings) as predictor:
                while not ended.wait(0.005):
                    row = [rng.gauss(0, 1) for _ in range(width)]
                    inputs = [{"name": "measurements", "datatype": "FP32", "shape": [1, width], "data": row}]
                    try:
                        served = predictor.send(model, inputs).is_success
                    except LastgoodError:
                        served = False
                    if not served:
                        ended.wait(0.2)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def make_repository(folder: Path) -> str:
    """Copy the tree as it is now, commit it, and give the commit."""
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    for name in filter(None, listed):
        source, target = ROOT / name, folder / name
        if not source.is_symlink() and not source.is_file():
            continue  # deleted, and not committed yet
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    return commit(folder, "the tree under test")


def commit(repository: Path, message: str) -> str:
    """Commit everything; give the commit."""
    git(repository, "add", "--all")
    git(repository, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--allow-empty", "-m", message)
    return git(repository, "rev-parse", "HEAD").strip()


def git(folder: Path, *arguments: str) -> str:
    """Run git, and give what it prints."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@contextmanager
def open_place(folder: Path, repository: Path) -> Iterator[Place]:
    """Start a gateway of this place's own around a throwaway home; stop it at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    rest, control, prefect = free_ports(3)
    ports = {"port_rest": rest, "port_grpc": 0, "port_control": control, "port_prefect": prefect}
    settings = Settings(project=repository, home=folder / "home", **ports)  # type: ignore[arg-type]
    prepare = folder / "prepare"
    prepare.write_text(PREPARE.format(python=sys.executable), "utf-8")
    prepare.chmod(0o755)
    inherited = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
    variables = {**inherited, **environment(settings)}
    stack = Stack(settings.home)
    for service in build_services(settings, only=("gateway",))[0]:
        stack.start(service)
    try:
        yield Place(folder, repository, git(repository, "rev-parse", "HEAD").strip(), prepare, settings, variables)
    finally:
        stack.stop("gateway")
