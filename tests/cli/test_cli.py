"""The command line as a whole: help, exit codes, sentences."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from lastgood.cli import COMMANDS, run
from lastgood.errors import LastgoodError

NAMES = [name for commands in COMMANDS.values() for name, _, _ in commands]


def lastgood(*arguments: str, cwd: Path, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTGOOD_")}
    return subprocess.run(
        [sys.executable, "-m", "lastgood", *arguments], cwd=cwd, env=clean, capture_output=True, text=True, timeout=seconds, check=False
    )


def test_help_answers_within_a_third_of_a_second(tmp_path: Path) -> None:
    """In processor time, the best of five: other tests run beside this one."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    took = []
    for _ in range(5):
        began = spent()
        assert lastgood("--help", cwd=tmp_path).returncode == 0
        took.append(spent() - began)
    assert min(took) < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_and_stands_in_the_readme(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that cannot be imported, or that nobody can find, is none."""
    assert run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"lastgood {name}" in shown
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    assert f"lastgood {name}" in readme


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("frobnicate",), 2, "frobnicate"),
        (("show",), 2, "REF"),
        (("down", "gatewy"), 2, "gatewy is no part of the stack; expected some of: gateway"),
        (("down", "gateway"), 0, "nothing was running"),
        (("show", "Digits@1"), 2, "cannot name a model"),
        (("show", "digits@7"), 4, "digits"),
        (("trigger", "prefect", "digits", "--wait-seconds", "0"), 2, "above 0"),
        (("trigger", "prefect", "digits", "--wait-seconds", "nan"), 2, "above 0"),
        (("trigger", "prefect", "digits", "--commit", "HEAD"), 2, "are Jenkins'"),
        (("trigger", "jenkins", "digits", "--url", "http://[::1"), 2, "no address of a Jenkins"),
        (("train", "digits", "--seed", "1.5"), 2, "whole number"),
        (("train", "digits", "--seed", "-1"), 2, "whole number"),
        (("train", "digits", "--set", "learning_rate=nan"), 2, "a finite number"),
        (("train", "digits", "--run", "no/such/folder/x.tar"), 2, "there is no folder"),
        (("train", "digits", "--run", "./"), 2, "is a folder"),
        (("train", "digits", "-m", "\udcff bad"), 2, "not text"),
        (("deploy", "absent.tar"), 4, "no archive"),
        (("list", "digits"), 4, "digits"),
        (("release", "nosuch"), 4, "no pipeline for 'nosuch'"),
        (("release", "digits", "--set", "widht=3"), 2, "widht"),
        (("deploy", "digits@1"), 4, "digits"),
        (("routes",), 7, "lastgood up"),
        (("rollback", "digits", "-m", "why"), 7, "lastgood up"),
        (("rollback", "digits"), 2, "message"),
        (("explain", "digits"), 4, "digits"),
        (("drill", "flood"), 2, "flood"),
        (("drill", "dead", "--yes"), 2, "--here"),
        (("drill", "dead", "--metrics", "no/such/folder/x.prom"), 2, "there is no folder"),
        (("drill", "dead", "--here"), 7, "lastgood up"),
        (("retrain", "nosuch"), 4, "no pipeline for 'nosuch'"),
        (("retrain", "digits", "--set", "widht=3"), 2, "widht"),
        (("retrain", "digits", "--policy", "sometimes"), 2, "incremental"),
        (("retrain", "digits"), 7, "lastgood up"),
        (("replay", "nothing.json", "--policy", "lastgood.toml"), 2, "port_rest"),
        (("replay", "lastgood.toml", "--policy", "nothing.toml"), 2, "nothing.toml"),
        (("import", "nothing.onnx", "--model", "m"), 2, "nothing.onnx"),
    ],
)
def test_a_persons_mistake_is_a_sentence_with_its_exit_code(tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    """No traceback; what it was about is named."""
    (tmp_path / "lastgood.toml").write_text("port_rest = 1\nport_control = 2\n", "utf-8")
    done = lastgood(*arguments, cwd=tmp_path)
    assert code == done.returncode, done.stderr
    assert "Traceback" not in done.stderr
    assert sentence in done.stderr


def test_a_setting_that_is_not_known_is_named(tmp_path: Path) -> None:
    """A misspelt name in lastgood.toml does not pass silently."""
    (tmp_path / "lastgood.toml").write_text("prot_rest = 8000\n", "utf-8")
    done = lastgood("list", cwd=tmp_path)
    assert done.returncode == 2
    assert "prot_rest" in done.stderr
    assert "port_rest" in done.stderr


def test_answers_go_to_stdout_and_notes_to_stderr(tmp_path: Path) -> None:
    """JSON can be piped."""
    done = lastgood("list", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert [] == json.loads(done.stdout)


def test_every_error_has_a_code_of_its_own_and_a_documented_exit_code() -> None:
    """Codes are what programs read; two errors with one code could not be told apart."""

    def below(kind: type[LastgoodError]) -> list[type[LastgoodError]]:
        return [kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))]

    import lastgood.drill.late
    import lastgood.serving.gateway.program

    assert lastgood.drill.late is not None
    errors = {kind for kind in below(LastgoodError) if not kind.__name__.startswith("_")}
    own = [kind.code for kind in errors if "code" in vars(kind)]
    assert sorted(set(own)) == sorted(own)
    assert {kind.exit_code for kind in errors} <= {1, 2, 3, 4, 5, 6, 7, 8}


def test_an_unknown_variable_and_an_open_address_without_a_token_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable would be ignored silently; an open port would let everybody in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTGOOD_PORT_RSET", "1")
    assert 2 == run(["list"])
    monkeypatch.delenv("LASTGOOD_PORT_RSET")
    monkeypatch.setenv("LASTGOOD_HOST", "0.0.0.0")
    assert 2 == run(["list"])


def test_a_rollout_policy_that_is_not_valid_is_found_before_the_training(tmp_path: Path) -> None:
    """Not after minutes of it, with a version left behind."""
    (tmp_path / "lastgood.toml").write_text("[models.tumour.rollout]\nsteps = [1.5]\n", "utf-8")
    for arguments in (("release", "tumour", "--dry-run"), ("train", "tumour")):
        done = lastgood(*arguments, cwd=tmp_path)
        assert 2 == done.returncode
        assert "steps" in done.stderr
