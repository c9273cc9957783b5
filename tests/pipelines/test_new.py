"""``lastgood new``, and the commands of one release on what it wrote."""

import json
from pathlib import Path
from typing import Any

import pytest

from lastgood.cli import run


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Run a command with --json; give its answer."""
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_new_pipeline_is_released_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scaffold trains, compresses, passes its gate and registers, one command after the other."""
    monkeypatch.delenv("LASTGOOD_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert ask(capsys, "new", "my-churn")["files"] == ["lastgood.toml", "my_churn.py", ".gitignore", "README.md"]
    monkeypatch.chdir(tmp_path / "my-churn")
    trained = ask(capsys, "train", "my-churn", "--set", "strength=0.5", "--seed", "4", "-m", "first")
    assert trained["result"]["warnings"] == []
    assert ask(capsys, "compress", "my-churn", "--run", trained["run"])["result"]["chosen"] == "fp32"
    assert ask(capsys, "gate", "my-churn")["result"]["passed"] is True
    assert ask(capsys, "register", "my-churn")["version"] == "my-churn@1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my-churn"]


def test_the_scaffold_is_under_twenty_lines_of_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments, docstrings and blank lines aside, a pipeline is short."""
    monkeypatch.chdir(tmp_path)
    assert run(["new", "churn"]) == 0
    lines = [line.strip() for line in (tmp_path / "churn" / "churn.py").read_text("utf-8").splitlines()]
    assert len([line for line in lines if line and not line.startswith(("#", '"""'))]) < 20


def test_an_existing_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is overwritten: exit code 6 and the folder's name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "churn").mkdir()
    assert run(["new", "churn"]) == 6
    assert str(tmp_path / "churn") in capsys.readouterr().err
    assert list((tmp_path / "churn").iterdir()) == []


@pytest.mark.parametrize("name", ["class", "../churn", "Churn"])
def test_a_name_that_cannot_be_a_model_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A folder is made only for a name that can be released."""
    monkeypatch.chdir(tmp_path)
    assert run(["new", name]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--dry-run names the files only."""
    monkeypatch.chdir(tmp_path)
    assert ask(capsys, "new", "churn", "--dry-run")["written"] is False
    assert list(tmp_path.iterdir()) == []


def test_parameters_for_a_run_that_has_its_own_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--run and --set together would silently ignore one of them."""
    monkeypatch.chdir(tmp_path)
    assert run(["train", "digits", "--run", "digits-20260101-000000-0000", "--set", "width=4"]) == 2
    assert "leave --run away" in capsys.readouterr().err
