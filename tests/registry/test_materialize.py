"""A version's files in a folder to serve from: whole, verified, and not the store's own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.registry.content import Content
from lastgood.registry.errors import FileDamagedError, FileMissingError, FolderNotEmptyError
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from tests.registry.places import flip, name_of

Add = Callable[..., Version]
Draft = Callable[[str], tuple[Content, dict[str, Path]]]


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "version"


@pytest.fixture
def expected(draft: Draft) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in draft("a")[1].items()}


def test_the_folder_holds_exactly_the_files(registry: Registry, add: Add, folder: Path, expected: dict[str, bytes]) -> None:
    """Every file at its path, nothing else, and nothing unfinished beside the folder."""
    assert folder == registry.materialize(add("a").digest, folder)
    assert expected == read(folder)
    assert [folder] == list(folder.parent.iterdir())


def test_the_files_are_not_the_stores_own(registry: Registry, add: Add, folder: Path) -> None:
    """Whoever writes into a served file harms no stored one."""
    registry.materialize(add("a").digest, folder)
    for path in (folder / "model.onnx", folder / "extra/labels.txt"):
        assert path.lstat().st_nlink == 1
        path.chmod(0o644)
        path.write_bytes(b"other")
    assert registry.verify().ok


def test_a_folder_that_is_right_stays(registry: Registry, add: Add, folder: Path) -> None:
    """It is hashed, not copied again."""
    digest = add("a").digest
    before = registry.materialize(digest, folder).stat().st_ino
    assert before == registry.materialize(digest, folder).stat().st_ino


@pytest.mark.parametrize("harm", ["flip", "remove", "truncate", "link", "hard link"])
def test_a_folder_that_is_wrong_is_made_anew(
    registry: Registry, add: Add, folder: Path, expected: dict[str, bytes], harm: str, tmp_path: Path
) -> None:
    """Changed, missing or linked files are not served."""
    digest = add("a").digest
    path = registry.materialize(digest, folder) / "model.onnx"
    data = path.read_bytes()
    path.unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(data)
    if harm == "flip":
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    elif harm == "truncate":
        path.write_bytes(data[:-1])
    elif harm == "link":
        path.symlink_to(elsewhere)
    elif harm == "hard link":
        os.link(elsewhere, path)
    registry.materialize(digest, folder)
    assert expected == read(folder)
    assert not path.is_symlink()
    assert path.stat().st_nlink == 1
    assert [folder] == list(folder.parent.iterdir())


def test_a_folder_with_something_else_is_left_alone(registry: Registry, add: Add, folder: Path) -> None:
    """What is not the version's is never removed."""
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("ten years", "utf-8")
    with pytest.raises(FolderNotEmptyError, match=r"thesis\.txt"):
        registry.materialize(add("a").digest, folder)
    assert {"thesis.txt": b"ten years"} == read(folder)


def test_a_file_in_the_place_of_the_folder_is_refused(registry: Registry, add: Add, folder: Path) -> None:
    """A path that is a file cannot become a folder."""
    folder.parent.mkdir()
    folder.write_bytes(b"file")
    with pytest.raises(FolderNotEmptyError, match="not a folder"):
        registry.materialize(add("a").digest, folder)


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "damaged"])
def test_nothing_appears_when_a_stored_file_is_bad(registry: Registry, add: Add, folder: Path, gone: bool) -> None:  # noqa: FBT001
    """The error names the version's file and the stored one, and no folder is made."""
    version = add("a")
    entry = next(entry for entry in registry.content(version.digest).files if entry.path == "model.onnx")
    stored = registry._files.store.locate(entry.sha256)
    if gone:
        registry._files.store._objects.remove([name_of(entry.sha256)])
    else:
        flip(registry, entry.sha256, bit=0)
    with pytest.raises(FileMissingError if gone else FileDamagedError) as raised:
        registry.materialize(version.digest, folder)
    assert "model.onnx" in str(raised.value)
    assert stored in str(raised.value)
    assert [] == list(folder.parent.iterdir())
