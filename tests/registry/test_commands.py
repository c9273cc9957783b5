"""The command line on the places that are set: the same answers and exit codes, wherever the bytes are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from lastgood.cli import run
from lastgood.registry.registry import Registry
from lastgood.settings import Settings
from lastgood.stack.services import environment
from tests.registry.places import flip
from tests.registry.servers import run_s3


@pytest.fixture
def version(registry: Registry, add: Callable[..., Any], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    """A version in the registry that commands find by the environment."""
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    return str(add("one"))


def test_a_version_comes_in_is_listed_verified_and_goes_out(
    version: str, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what was changed where it is stored has the exit code of damage."""
    assert run(["export", version, str(tmp_path / "out")]) == 0
    assert run(["import", str(tmp_path / "out"), "--model", "copy"]) == 0
    capsys.readouterr()
    assert run(["list", "--json"]) == 0
    assert {"copy", "digits"} <= set(json.dumps(json.loads(capsys.readouterr().out)).split('"'))
    assert run(["verify"]) == 0
    flip(registry, next(registry._files.store.iterate()))
    assert run(["verify"]) == 5
    assert run(["export", version, str(tmp_path / "again")]) == 5


@pytest.mark.system
def test_a_bucket_that_is_down_is_exit_code_7_and_commands_without_bytes_go_on(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the catalogue knows is answered."""
    with run_s3(tmp_path / "s3") as server:
        for name, value in server.variables().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LASTGOOD_FILES", server.create())
        server.stop()
        driver = fsspec.get_filesystem_class("s3")
        driver.clear_instance_cache()
        assert run(["list"]) == 0
        assert run(["verify"]) == 7
        assert "look at the network" in capsys.readouterr().err.lower()
        driver.clear_instance_cache()
