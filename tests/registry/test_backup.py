"""A registry in one file: everything comes back elsewhere, and what is no whole backup makes nothing known."""

import io
import itertools
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lastgood.cli import run
from lastgood.registry import keys
from lastgood.registry.content import Content, Record
from lastgood.registry.errors import (
    BackupDamagedError,
    BackupExistsError,
    FileMissingError,
    KeyMissingError,
    KeyUnusableError,
    NotEmptyError,
)
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.settings import Settings
from tests.registry.places import Places, only_local

Add = Callable[..., Version]


@pytest.fixture
def full(registry: Registry, add: Add) -> Registry:
    """A registry with everything in it that a table is derived from."""
    first, second = add("one"), add("two")
    other = add("one", model="other")
    with registry.transaction() as transaction:
        transaction.move_alias("digits", "live", second.digest, actor="gateway", why="soaked")
        transaction.move_alias("digits", "audited", first.digest, actor="ada", why="passed")
        transaction.tombstone(other.digest, model="other", cause="judge", actor="judge", why="bad", payload={"counts": [1, 2]})
        transaction.write_route("digits", {"live": second.digest, "share": 0.5}, expected=0)
    registry.describe(first, "größer", actor="ada")
    registry.add_tag(first, "vision", actor="ada")
    return registry


def restore(settings: Settings, file: Path) -> Registry:
    registry = Registry.open(settings, writer="test")
    try:
        registry.restore(file, actor="ada")
    except BaseException:
        registry.close()
        raise
    return registry


def elsewhere(places: Places, folder: Path) -> Settings:
    folder.mkdir()
    return places.new(folder)


def test_everything_comes_back(full: Registry, places: Places, tmp_path: Path) -> None:
    """Events, aliases, tombstones, routes, notes, bytes; and the restored one goes on where the other was."""
    file = tmp_path / "backup.tar"
    events = full.events()
    about = full.backup(file, actor="ada")
    assert (len(events), events[-1].hash, 2, False) == (about.position, about.hash, about.contents, about.encrypted)
    assert "backed-up" == full.events()[-1].kind
    with restore(elsewhere(places, tmp_path / "new"), file) as new:
        assert events == new.events()[:-1]
        last = new.events()[-1]
        assert ("restored", "ada", about.hash) == (last.kind, last.actor, last.payload["hash"])
        for model in ("digits", "other"):
            assert full.versions(model) == new.versions(model)
            assert full.aliases(model) == new.aliases(model)
            for version in full.versions(model):
                assert full.content(version.digest) == new.content(version.digest)
                old, copy = (own.materialize(version.digest, tmp_path / f"{n}-{version}") for n, own in enumerate((full, new)))
                assert {p.name: p.read_bytes() for p in old.rglob("*.*")} == {p.name: p.read_bytes() for p in copy.rglob("*.*")}
        assert (full.tombstones(), full.routes()) == (new.tombstones(), new.routes())
        assert full.notes(full.versions("digits")[0].digest) == new.notes(new.versions("digits")[0].digest)
        report = new.verify()
        assert ((), 0) == (report.problems, report.unreferenced_files)
        with new.transaction() as transaction:
            transaction.append("noted", model=None, digest=None, actor="ada", payload={})
        assert new.verify().ok


def test_a_backup_of_the_folder_is_restored_into_a_bucket_and_back(full: Registry, places: Places, tmp_path: Path) -> None:
    """It says nothing about where it comes from."""
    full.backup(tmp_path / "backup.tar", actor="ada")
    local = Settings(project=tmp_path / "local", home=tmp_path / "local" / "home")
    local.project.mkdir()
    with restore(local, tmp_path / "backup.tar") as new:
        new.backup(tmp_path / "again.tar", actor="ada")
    with restore(elsewhere(places, tmp_path / "new"), tmp_path / "again.tar") as back:
        assert full.versions("digits") == back.versions("digits")
        assert back.verify().ok


def test_a_full_registry_is_left_alone(full: Registry, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    full.backup(file, actor="ada")
    events = full.events()
    with pytest.raises(NotEmptyError, match=f"holds {len(events)} events"):
        full.restore(file, actor="ada")
    assert events == full.events()


def test_nothing_is_written_over(full: Registry, tmp_path: Path) -> None:
    """Neither a file nor into a folder that is not there; nothing is left beside."""
    file = tmp_path / "backup.tar"
    file.write_bytes(b"mine")
    with pytest.raises(BackupExistsError, match="there already"):
        full.backup(file, actor="ada")
    assert b"mine" == file.read_bytes()
    with pytest.raises(BackupExistsError, match="no folder"):
        full.backup(tmp_path / "nowhere" / "backup.tar", actor="ada")
    assert not list(tmp_path.glob(".backup*"))


def test_a_backup_that_would_not_be_whole_is_none(full: Registry, tmp_path: Path) -> None:
    """A file of a version is gone."""
    objects = full._files.objects
    objects.remove([next(objects.iterate("files"))])
    with pytest.raises(FileMissingError):
        full.backup(tmp_path / "backup.tar", actor="ada")
    assert not list(tmp_path.glob("*backup*"))


def list_bad(file: Path) -> Iterator[tuple[str, bytes]]:
    """Give what a backup may have become, with a name of each."""
    data = file.read_bytes()
    with tarfile.open(file) as source:
        last = source.getmembers()[-1]
        members = [(member.name, source.extractfile(member).read()) for member in source]  # type: ignore[union-attr]  # all are files
    end = last.offset_data + last.size  # behind it lie zeros

    def write(changed: list[tuple[str, bytes]], *, link: str = "") -> bytes:
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as out:
            for name, own in changed:
                info = tarfile.TarInfo(name)
                info.size = len(own)
                out.addfile(info, io.BytesIO(own))
            if link:
                info = tarfile.TarInfo(members[-1][0])
                info.type, info.linkname = tarfile.SYMTYPE, link
                out.addfile(info)
        return sink.getvalue()

    yield "empty", b""
    yield "no archive", b"nonsense" * 1000
    yield from ((f"cut at {part}/16", data[: end * part // 16]) for part in range(1, 16))
    yield "a byte is missing", data[: end - 1]
    yield "an object is missing", write(members[:-1])
    yield "an object is there twice", write([*members, members[-1]])
    yield "it does not say what it is", write(members[1:])
    yield "the events are missing", write([members[0], *members[2:]])
    yield "a link", write(members[:-1], link="/etc/passwd")
    told = json.loads(members[0][1])
    for name, value in (("format", "lastgood/backup/2"), ("events", 1), ("hash", "0" * 64), ("more", 1)):
        yield f"another {name}", write([("backup.json", json.dumps({**told, name: value}).encode()), *members[1:]])
    for number in (1, 2, 3):
        changed = [(name, own[:-3] + b"xyz" if index == number else own) for index, (name, own) in enumerate(members)]
        yield f"{members[number][0]} was changed", write(changed)
    for name in ("objects/../../outside", "objects//etc/outside", "objects/other/ab/cd", "elsewhere", "objects/files/../../../outside"):
        yield name, write([*members[:-1], (name, members[-1][1])])


@only_local
def test_a_file_that_is_no_whole_backup_makes_nothing_known(full: Registry, places: Places, tmp_path: Path) -> None:
    """Whatever is wrong with it; then a whole one is restored in the same place."""
    file, bad = tmp_path / "backup.tar", tmp_path / "bad.tar"
    full.backup(file, actor="ada")
    with Registry.open(elsewhere(places, tmp_path / "new"), writer="test") as new:
        for what, data in list_bad(file):
            bad.write_bytes(data)
            said = ""
            try:
                new.restore(bad, actor="ada")
            except BackupDamagedError as exc:
                said = str(exc)
            assert ("backup" in said, [], []) == (True, new.events(), new.models()), (what, said)
        assert not list(tmp_path.rglob("outside"))
        with pytest.raises(BackupDamagedError, match="No such file"):
            new.restore(tmp_path / "none.tar", actor="ada")
        new.restore(file, actor="ada")
        assert new.verify().ok


def test_a_bit_that_was_flipped_in_a_backup_is_found(full: Registry, places: Places, tmp_path: Path) -> None:
    """In an object: by the check that follows."""
    file = tmp_path / "backup.tar"
    full.backup(file, actor="ada")
    data = bytearray(file.read_bytes())
    with tarfile.open(file) as source:
        member = next(own for own in source if own.name.startswith("objects/segments/"))
    data[member.offset_data + member.size // 2] ^= 4
    file.write_bytes(data)
    with restore(elsewhere(places, tmp_path / "new"), file) as new:
        assert not new.verify().ok


def test_an_encrypted_registry_stays_encrypted(
    places: Places, settings: Settings, draft: Callable[[str], tuple[Content, dict[str, Path]]], tmp_path: Path
) -> None:
    """Its file holds no word of it, is restored with its key only, and brings the keys that this unlocks."""
    key, other = tmp_path / "key", tmp_path / "other"
    for own in (key, other):
        own.write_text(keys.new_key(), "ascii")
    encrypted = settings.model_copy(update={"encryption_key_file": key})
    content, files = draft("a secret word")
    with Registry.open(encrypted, writer="test") as registry:
        version = registry.register("digits", content, files, Record("ada", "secret"), actor="ada")
        assert registry.backup(tmp_path / "backup.tar", actor="ada").encrypted
    assert b"a secret word" not in (tmp_path / "backup.tar").read_bytes()
    new = elsewhere(places, tmp_path / "new")
    with pytest.raises(KeyMissingError, match="encryption_key_file"):
        restore(new, tmp_path / "backup.tar")
    with restore(new.model_copy(update={"encryption_key_file": other}), tmp_path / "backup.tar") as wrong, pytest.raises(KeyUnusableError):
        wrong.verify()
    with Registry.open(new.model_copy(update={"encryption_key_file": key}), writer="test") as right:
        assert right.verify().ok
        assert (right.materialize(version.digest, tmp_path / "copy") / "model.onnx").read_bytes() == files["model.onnx"].read_bytes()


@pytest.mark.slow
def test_writers_and_a_collector_go_on_while_backups_are_written(registry: Registry, add: Add, places: Places, tmp_path: Path) -> None:
    """Each backup is whole, and holds what was there at one moment."""
    add("first")
    stop, files = threading.Event(), [tmp_path / f"{number}.tar" for number in range(6)]

    def write() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            add(f"version {number}")
            registry.collect(actor="ada", recent_seconds=0)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            abouts = [registry.backup(file, actor="ada") for file in files]
        finally:
            stop.set()
        writing.result()
    assert abouts[0].position < abouts[-1].position
    for file, about in zip(files, abouts, strict=True):
        with restore(elsewhere(places, tmp_path / file.stem), file) as new:
            assert (about.position, about.contents) == (len(new.events()) - 1, len({own.digest for own in new.versions("digits")}))
            assert new.verify().ok


@only_local
def test_the_commands(
    tmp_path: Path, full: Registry, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a person calls them: there, back, and what is refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTGOOD_HOME", str(settings.home))
    assert run(["backup", "registry.tar"]) == 0
    assert "newest event" in capsys.readouterr().out
    assert run(["backup", "registry.tar"]) == 2
    assert run(["restore", "registry.tar"]) == 6
    monkeypatch.setenv("LASTGOOD_HOME", str(tmp_path / "new"))
    assert run(["restore", "registry.tar"]) == 0
    assert "Everything is as recorded" in capsys.readouterr().out
    assert run(["log"]) == 0
    assert "restored a backup" in capsys.readouterr().out
    (tmp_path / "registry.tar").write_bytes(b"short")
    monkeypatch.setenv("LASTGOOD_HOME", str(tmp_path / "third"))
    assert run(["restore", "registry.tar"]) == 5
    assert run(["restore", "registry.tar", "--json"]) == 5
