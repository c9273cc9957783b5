"""A real registry in a temporary folder, and small versions to put into it."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.settings import Settings
from lastgood.tensors import TensorSpec

X, Y = TensorSpec("x", "FP32", (-1, 4)), TensorSpec("y", "FP32", (-1, 2))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(project=tmp_path, home=tmp_path / "home")


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
