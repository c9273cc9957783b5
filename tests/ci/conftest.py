"""Runners of CI files, for the tests of this folder; modules under tests cannot import each other, so they come as a fixture."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.ci import gitlab, jenkinsfile, place, workflow


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"lastgood_tests_ci_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if not TYPE_CHECKING:
    jenkinsfile, place, gitlab, workflow = map(_load, ("jenkinsfile", "place", "gitlab", "workflow"))


class Tools:
    """What tests call."""

    run_jenkinsfile = staticmethod(jenkinsfile.run_jenkinsfile)
    jenkinsfile_command = staticmethod(jenkinsfile.command)
    run_workflow = staticmethod(workflow.run_workflow)
    run_gitlab = staticmethod(gitlab.run_gitlab)
    commit = staticmethod(place.commit)
    git = staticmethod(place.git)
    checkers = jenkinsfile.CHECKERS


@pytest.fixture(scope="session")
def ci() -> Tools:
    """Give the runners."""
    return Tools()


@pytest.fixture(scope="session")
def groovy() -> None:
    """Skip where no Jenkinsfile can be carried out, and say why."""
    if (why := jenkinsfile.why_not()) is not None:
        pytest.skip(why)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that holds this tree, as it is now, in one commit."""
    folder = tmp_path_factory.mktemp("repository")
    place.make_repository(folder)
    return folder


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> "Iterator[place.Place]":
    """A home and a gateway that the builds of one module share."""
    with place.open_place(tmp_path_factory.mktemp("place"), repository) as found:
        yield found
