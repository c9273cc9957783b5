"""
A real registry, empty, and small versions to put into it: everything that asks for one runs on a folder and SQLite, and again on S3 and
PostgreSQL.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.settings import Settings
from lastgood.tensors import TensorSpec
from tests.registry.places import LOCAL, REMOTE, LocalPlaces, Places, RemotePlaces
from tests.registry.servers import S3, PostgreSQL, run_postgresql, run_s3

X, Y = TensorSpec("x", "FP32", (-1, 4)), TensorSpec("y", "FP32", (-1, 2))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A server for this process's tests: starting one takes less time than it would take to share it."""
    with run_postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A server for this process's tests, which they and their child processes find by its variables."""
    with run_s3(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.variables().items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(params=[LOCAL, pytest.param(REMOTE, marks=pytest.mark.system)])
def places(request: pytest.FixtureRequest) -> Iterator[Places]:
    """Where the registries of a test are."""
    if request.param == LOCAL:
        yield LocalPlaces()
        return
    remote = RemotePlaces(request.getfixturevalue("postgresql"), request.getfixturevalue("s3"))
    try:
        yield remote
    finally:
        remote.close()


@pytest.fixture
def settings(places: Places, tmp_path: Path) -> Settings:
    return places.new(tmp_path)


@pytest.fixture
def registry(settings: Settings) -> Iterator[Registry]:
    with Registry.open(settings, writer="test") as opened:
        yield opened


@pytest.fixture
def draft(tmp_path: Path) -> Callable[[str], tuple[Content, dict[str, Path]]]:
    """Files of a version that nobody registered yet; another text makes another digest."""

    def make(text: str) -> tuple[Content, dict[str, Path]]:
        folder = tmp_path / "drafts" / hashlib.sha256(text.encode()).hexdigest()[:8]
        (folder / "extra").mkdir(parents=True, exist_ok=True)
        files = {"extra/labels.txt": folder / "extra/labels.txt", "model.onnx": folder / "model.onnx"}
        files["model.onnx"].write_bytes(text.encode() * 100)
        files["extra/labels.txt"].write_bytes(b"the same in every version\n")
        entries = []
        for name, path in files.items():
            data = path.read_bytes()
            entries.append(FileEntry(name, len(data), hashlib.sha256(data).hexdigest()))
        return Content(tuple(entries), (X,), (Y,), 0), files

    return make


@pytest.fixture
def add(registry: Registry, draft: Callable[[str], tuple[Content, dict[str, Path]]]) -> Callable[..., Version]:
    """Register a small version."""

    def register(text: str, model: str = "digits", **record: object) -> Version:
        content, files = draft(text)
        said = Record(**{"author": "ada", "why": f"because of {text}", **record})  # type: ignore[arg-type]  # fields of Record by name
        return registry.register(model, content, files, said, actor="ada")

    return register
