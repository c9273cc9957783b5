"""What README says is run: its make targets exist, its commands have help, and its pipeline is released."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lastgood.cli import COMMANDS
from lastgood.pipelines.find import find_pipeline
from lastgood.pipelines.gate_settings import read_gate
from lastgood.serving.rollout.policy import read_policy
from lastgood.settings import load_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]


def test_every_make_target_of_the_readme_exists() -> None:
    """By make's own dry run."""
    targets = sorted(set(re.findall(r"make ([a-z]+)", README)) - {"is", "it"})
    assert {"release", "test", "quick", "drill", "down", "setup"} <= set(targets)
    for target in targets:
        done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert 0 == done.returncode, done.stderr


def test_every_command_of_the_shell_blocks_exists() -> None:
    """Their first words are commands, or make targets."""
    known = {name for commands in COMMANDS.values() for name, _, _ in commands}
    lines = [line for text in blocks("sh") for line in text.splitlines() if line]
    assert lines
    for line in lines:
        first, second = line.split()[:2]
        assert first == "make" or (first == "lastgood" and second in known), line


def test_the_pipeline_of_the_readme_is_one_and_under_twenty_lines_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imports and blank lines apart, and with the settings shown beside it."""
    (source,) = blocks("python")
    code = [line for line in source.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(code) < 20
    (tmp_path / "wine.py").write_text(source, "utf-8")
    (toml,) = blocks("toml")
    (tmp_path / "lastgood.toml").write_text(toml, "utf-8")
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    found = find_pipeline(settings, "wine")
    own = tomllib.loads(toml)["models"]["wine"]
    assert own["gate"]["accuracy_floor"] == read_gate(found.pipeline.gate, own["gate"], model="wine").accuracy_floor
    assert tuple(own["rollout"]["steps"]) == read_policy(own["rollout"], source="README").steps


def test_every_link_of_the_documents_leads_to_a_file() -> None:
    """A renamed file breaks no document unseen."""
    for document in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text("utf-8")):
            assert target.startswith("http") or (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_readmes_exit_codes_are_the_errors_exit_codes() -> None:
    """The list there is the list in errors.py."""
    from lastgood import errors

    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LastgoodError)}
    said = {
        int(code)
        for code in re.findall(
            r"(?:^|[ ·])(\d+)\s(?:done|bug|usage|a gate|not found|integrity|conflict|unavailable|taken)", " ".join(README.split())
        )
    }
    assert codes | {0} == said
    assert sys.version_info >= (3, 11)
