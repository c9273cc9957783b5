"""Stored files that are encrypted: as before for who has the key, nothing for who has not, and what was changed is found."""

import hashlib
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.cli import run
from lastgood.errors import IntegrityError
from lastgood.registry import keys
from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.errors import FileDamagedError, FileMissingError, KeyMissingError, KeyUnusableError
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.registry.store.encrypted_objects import DataKeys, EncryptedObjects
from lastgood.registry.store.objects import FolderObjects
from lastgood.registry.store.places import open_objects
from lastgood.settings import Settings
from tests.registry.places import Places, only_local
from tests.registry.racing import take_steps

SECRET = b"a secret word"
NAME = "segments/ab/" + "cd" * 31


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "registry.key"
    file.write_text(keys.new_key() + "\n", "ascii")
    return file


@pytest.fixture
def encrypted(settings: Settings, key: Path) -> Settings:
    return settings.model_copy(update={"encryption_key_file": key})


@pytest.fixture
def weights(tmp_path: Path) -> Iterator[Path]:
    """Files of a line; each has a secret word before its numbers."""

    def step() -> Iterator[Path]:
        for number, values in enumerate(take_steps()):
            path = tmp_path / f"{number}.npz"
            np.savez(path, word=np.frombuffer(SECRET, np.uint8), values=values)
            yield path

    return step()


def register(settings: Settings, path: Path) -> Version:
    entry = FileEntry("weights.npz", path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    content = Content((entry,), (), (), None, model="weights.npz")
    with Registry.open(settings, writer="test") as registry:
        return registry.register("digits", content, {"weights.npz": path}, Record("ada", "a test"), actor="ada")


def list_objects(settings: Settings) -> dict[str, bytes]:
    stored = open_objects(settings.files_place)
    return {name: stored.read(name) for part in ("files", "segments", "sealed") for name in stored.iterate(part)}


def list_times(settings: Settings) -> list[float]:
    stored = open_objects(settings.files_place)
    return [measured[1] for name in stored.iterate("sealed") if (measured := stored.measure(name)) is not None]


def read_back(settings: Settings, version: Version, folder: Path) -> bytes:
    with Registry.open(settings, writer="test") as registry:
        return (registry.materialize(version.digest, folder) / "weights.npz").read_bytes()


def test_what_is_stored_says_nothing(encrypted: Settings, places: Places, weights: Iterator[Path], tmp_path: Path) -> None:
    """Neither a word of a file nor a file's hash is seen; the same bytes are stored once, and differences are."""
    paths = [next(weights) for _ in range(5)]
    versions = [register(encrypted, path) for path in paths]
    objects = list_objects(encrypted)
    seen = b"".join(objects.values()) + " ".join(objects).encode()
    assert SECRET not in seen
    for path in paths:
        assert hashlib.sha256(path.read_bytes()).hexdigest()[:16].encode() not in seen.replace(b"/", b"")
    assert not register(encrypted, paths[3]).new
    assert objects == list_objects(encrypted)
    plain = places.new(tmp_path / "plain")
    for path in paths:
        register(plain, path)
    bare = list_objects(plain)
    assert len(bare) == len(objects)
    assert sum(map(len, objects.values())) - sum(map(len, bare.values())) == len(objects) * (4 + 1 + 11 + 2 * 16)
    for path, version in zip(paths, versions, strict=True):
        assert path.read_bytes() == read_back(encrypted, version, tmp_path / f"copy-{version.number}")
    with Registry.open(encrypted, writer="test") as registry:
        assert registry.collect(actor="ada", recent_seconds=0).objects == 0
        report = registry.verify()
        assert ((), 5, 0) == (report.problems, report.files, report.unreferenced_files)


def test_without_the_key_it_is_a_sentence(encrypted: Settings, settings: Settings, weights: Iterator[Path], tmp_path: Path) -> None:
    """And nothing is written beside what is encrypted."""
    register(encrypted, path := next(weights))
    objects = list_objects(encrypted)
    with pytest.raises(KeyMissingError, match="encryption_key_file"):
        register(settings, path)
    other = tmp_path / "other.key"
    other.write_text(keys.new_key(), "ascii")
    with pytest.raises(KeyUnusableError, match="not encrypted under the key given"):
        register(settings.model_copy(update={"encryption_key_file": other}), path)
    assert objects == list_objects(encrypted)


@pytest.mark.parametrize("text", ["", "abc", "00" * 31, "zz" * 32, "00" * 33])
def test_what_is_no_key_is_not_used(settings: Settings, tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text, "ascii")
    with pytest.raises(KeyUnusableError, match=re.escape(str(file))):
        Registry.open(settings.model_copy(update={"encryption_key_file": file}), writer="test")
    file.write_bytes(b"\xff" * 64)
    with pytest.raises(KeyUnusableError):
        Registry.open(settings.model_copy(update={"encryption_key_file": file}), writer="test")
    file.unlink()
    with pytest.raises(KeyUnusableError, match="not there"):
        Registry.open(settings.model_copy(update={"encryption_key_file": file}), writer="test")


def test_a_key_from_the_environment(
    encrypted: Settings, settings: Settings, key: Path, weights: Iterator[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's and the variable's are the same thing."""
    version = register(encrypted, path := next(weights))
    monkeypatch.setenv(keys.VARIABLE, key.read_text("ascii"))
    assert path.read_bytes() == read_back(settings, version, tmp_path / "copy")


def test_another_key_writes_nothing_again(encrypted: Settings, settings: Settings, weights: Iterator[Path], tmp_path: Path) -> None:
    """With the new one all is as before, with the old one nothing opens."""
    version = register(encrypted, path := next(weights))
    objects, times = list_objects(encrypted), list_times(encrypted)
    fresh = tmp_path / "fresh.key"
    fresh.write_text(keys.new_key(), "ascii")
    with Registry.open(encrypted, writer="test") as running:
        assert running.verify().ok
        running.rotate_key(fresh)
        assert running.verify().ok
    with pytest.raises(KeyUnusableError):
        register(encrypted, path)
    rotated = settings.model_copy(update={"encryption_key_file": fresh})
    assert path.read_bytes() == read_back(rotated, version, tmp_path / "copy")
    assert objects == list_objects(rotated)
    assert times == list_times(rotated)
    with Registry.open(rotated, writer="test") as again:
        again.rotate_key(fresh)  # the same one is no harm
    register(rotated, next(weights))


def test_what_came_before_the_first_key_is_read_and_kept(
    encrypted: Settings, settings: Settings, weights: Iterator[Path], tmp_path: Path
) -> None:
    """A registry may be encrypted from some day on; later versions are differences to earlier ones."""
    first = register(settings, before := next(weights))
    second = register(encrypted, after := next(weights))
    assert before.read_bytes() == read_back(encrypted, first, tmp_path / "first")
    assert after.read_bytes() == read_back(encrypted, second, tmp_path / "second")
    with Registry.open(encrypted, writer="test") as registry:
        assert registry.collect(actor="ada", recent_seconds=0).objects == 0
        report = registry.verify()
        assert ((), 2) == (report.problems, report.files)


@only_local  # what is changed in a bucket is read by the same code
def test_whatever_is_changed_is_found(encrypted: Settings, weights: Iterator[Path]) -> None:
    """Any bit of any object, and one object in another's place, or under a name nobody gave."""
    for _ in range(3):
        register(encrypted, next(weights))
    objects, rng = list_objects(encrypted), np.random.default_rng(3)

    def find() -> bool:
        with Registry.open(encrypted, writer="test") as registry:
            return not registry.verify().ok

    assert not find()
    folder = encrypted.home / "registry"
    for name, data in objects.items():
        path = folder / name
        path.chmod(0o644)
        for place in (0, 4, 5, 20, len(data) - 1, *rng.integers(len(data), size=3)):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << int(rng.integers(8))]) + data[place + 1 :])
            assert find(), (path, place)
        path.write_bytes(data[: len(data) // 2])
        assert find()
        path.write_bytes(b"")
        assert find()
        path.write_bytes(data)
    some, other = [name for name in objects if "/segments/" in name][:2]
    path = folder / some
    path.write_bytes(objects[other])
    assert find()
    path.write_bytes(objects[some])
    (path.parent / ("00" * 47)).write_bytes(objects[some])
    with Registry.open(encrypted, writer="test") as registry, pytest.raises(IntegrityError, match="none of this registry"):
        registry.collect(actor="ada", recent_seconds=0)


@given(data=st.binary(max_size=300), first=st.integers(0, 100))
def test_an_object_comes_back_whole_and_in_part(tmp_path_factory: pytest.TempPathFactory, data: bytes, first: int) -> None:
    folder = tmp_path_factory.mktemp("objects")
    objects = EncryptedObjects(FolderObjects(folder), DataKeys.make())
    with pytest.raises(FileMissingError):
        objects.read(NAME)
    objects.write(NAME, data)
    assert (data, data[:first]) == (objects.read(NAME), objects.read(NAME, first))
    assert objects.exists(NAME)
    assert [NAME] == list(objects.iterate("segments"))
    assert not list(objects.iterate("files"))
    measured = objects.measure(NAME)
    assert measured is not None
    assert len(data) + 48 == measured[0]
    elsewhere = EncryptedObjects(FolderObjects(folder), DataKeys.make())
    assert not elsewhere.exists(NAME)
    with pytest.raises(FileDamagedError):
        list(elsewhere.iterate("segments"))
    objects.remove([NAME, "files/ab/" + "00" * 31])
    assert not objects.exists(NAME)


def test_the_command_writes_a_key_that_nobody_else_reads_and_never_over_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And changes to it, from one to the next."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTGOOD_HOME", str(tmp_path / "home"))
    assert run(["key", "new", "one.key"]) == 0
    assert stat.S_IMODE((tmp_path / "one.key").stat().st_mode) == 0o600
    text = (tmp_path / "one.key").read_text("ascii")
    assert text not in capsys.readouterr().out
    assert run(["key", "new", "one.key"]) == 2
    assert run(["key", "new", "nowhere/one.key"]) == 2
    assert text == (tmp_path / "one.key").read_text("ascii")
    assert run(["key", "rotate", "one.key"]) == 2
    assert "encryption_key_file" in capsys.readouterr().err
    (tmp_path / "lastgood.toml").write_text('encryption_key_file = "one.key"\n', "utf-8")
    assert run(["verify"]) == 0
    assert run(["key", "new", "two.key"]) == 0
    assert run(["key", "rotate", "two.key"]) == 0
    assert run(["list"]) == 0  # needs no stored file
    assert run(["verify"]) == 2
    (tmp_path / "lastgood.toml").write_text('encryption_key_file = "two.key"\n', "utf-8")
    assert run(["verify"]) == 0


def test_keys_that_were_changed_are_said(encrypted: Settings, weights: Iterator[Path]) -> None:
    register(encrypted, path := next(weights))
    stored = open_objects(encrypted.files_place)
    (kept,) = stored.iterate("keys")
    data = stored.read(kept)
    stored.write(kept, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(KeyUnusableError, match="was changed"):
        register(encrypted, path)
    stored.write(kept, data[:10])
    with pytest.raises(KeyUnusableError, match="was changed"):
        register(encrypted, path)
