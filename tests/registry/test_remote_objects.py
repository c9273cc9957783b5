"""Objects in a bucket and in other places that fsspec knows: what is written comes back, and every trouble is one of our errors."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from lastgood.drill.place import settings_in
from lastgood.registry.errors import FileDamagedError, FileMissingError, FilesUnavailableError, FilesUnsupportedError
from lastgood.registry.registry import Registry
from lastgood.registry.store.objects import ABANDONED_SECONDS, FolderObjects, Objects
from lastgood.registry.store.places import open_objects
from lastgood.registry.store.remote_objects import FsspecObjects, mask
from lastgood.registry.store.store import SegmentedStore
from lastgood.settings import Settings, load_settings
from lastgood.stack.services import environment
from tests.registry.servers import S3, run_s3

NAMES = ("files/ab/one", "files/b0/two", "segments/ab/three")


@pytest.fixture(params=["folder", "renamed", "memory", pytest.param("s3", marks=pytest.mark.system)])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> FolderObjects | FsspecObjects:
    """A folder, the same as a file system that renames, a place in memory, and a bucket: all empty."""
    if request.param == "folder":
        return FolderObjects(tmp_path / "store")
    if request.param == "s3":
        return FsspecObjects(request.getfixturevalue("s3").create())
    return FsspecObjects(f"file://{tmp_path}/store" if request.param == "renamed" else f"memory://{tmp_path.name}")


@pytest.fixture
def own_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A server that a test may stop, and whose clients do not know the other one."""
    with run_s3(tmp_path / "s3") as server:
        for name, value in server.variables().items():
            monkeypatch.setenv(name, value)
        driver = fsspec.get_filesystem_class("s3")
        driver.clear_instance_cache()
        yield server
        driver.clear_instance_cache()


def test_what_is_written_is_read_and_listed_until_it_is_removed(objects: Objects) -> None:
    """Whole or its first bytes; what is there twice is the second; what is not there is said, and may be removed."""
    assert [] == list(objects.iterate("files"))
    for name in NAMES:
        objects.write(name, b"first")
    objects.write(NAMES[0], b"a much longer second one")
    objects.settle()
    assert b"a much longer second one" == objects.read(NAMES[0])
    assert (b"a mu", b"first") == (objects.read(NAMES[0], 4), objects.read(NAMES[1], 1000))
    assert list(NAMES[:2]) == list(objects.iterate("files"))
    assert [True, False] == [objects.exists(name) for name in (NAMES[0], "files/ab/none")]
    with pytest.raises(FileMissingError, match="files/ab/none is gone"):
        objects.read("files/ab/none")
    for name in (NAMES[0], NAMES[0], "files/ab/none"):
        objects.remove([name])
    assert [NAMES[1]] == list(objects.iterate("files"))
    assert not objects.exists(NAMES[0])


def test_what_others_write_and_remove_is_seen_at_once(objects: FolderObjects | FsspecObjects, tmp_path: Path) -> None:
    """No listing is remembered, and no size: two processes share a place."""
    other = FolderObjects(tmp_path / "store") if isinstance(objects, FolderObjects) else FsspecObjects(objects._url)
    objects.write(NAMES[0], b"mine")
    assert [NAMES[0]] == list(other.iterate("files"))
    other.write(NAMES[0], b"theirs, and longer")
    other.write(NAMES[1], b"another")
    assert b"theirs, and longer" == objects.read(NAMES[0])
    assert list(NAMES[:2]) == list(objects.iterate("files"))
    other.remove([NAMES[0]])
    assert not objects.exists(NAMES[0])
    assert [NAMES[1]] == list(objects.iterate("files"))


def test_an_object_that_lost_all_of_its_bytes_is_damaged_and_no_bug(objects: Objects, tmp_path: Path) -> None:
    """And storing the file again mends it."""
    store = SegmentedStore(objects, workers=2)
    (tmp_path / "one").write_bytes(b"words " * 2000)
    sha256 = store.put(tmp_path / "one")
    for name in [*objects.iterate("segments"), *objects.iterate("files")]:
        objects.write(name, b"")
        assert (b"", b"") == (objects.read(name), objects.read(name, 8))
        with pytest.raises(FileDamagedError):
            store.verify(sha256)
        store.put(tmp_path / "one")
        assert store.verify(sha256) == 12_000


@pytest.mark.parametrize("name", ["", "/etc/passwd", "files/../../x", "incoming/x"])
def test_names_that_lead_elsewhere_are_no_names(objects: Objects, name: str) -> None:
    """In no kind of place."""
    uses: list[Callable[[], Any]] = [
        lambda: objects.write(name, b""),
        lambda: objects.read(name),
        lambda: objects.remove([name]),
        lambda: objects.measure(name),
    ]
    uses += [lambda: objects.exists(name), lambda: list(objects.iterate(name))]
    for use in uses:
        with pytest.raises(ValueError, match="no name of an object"):
            use()


class PickySystem(LocalFileSystem):  # type: ignore[misc]  # fsspec gives no types
    """Stands in for HDFS: its rename refuses a name that is taken."""

    protocol = "picky"

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        if self.exists(path2):
            raise FileExistsError(path2)
        super().mv(path1, path2, **kwargs)


def test_a_rename_that_refuses_taken_names_replaces_other_bytes_all_the_same(tmp_path: Path) -> None:
    """Nothing unfinished is left, and the same bytes stay where they are."""
    fsspec.register_implementation("picky", PickySystem, clobber=True)
    objects = FsspecObjects(f"picky://{tmp_path}/store")
    for data in (b"damaged", b"whole", b"whole"):
        objects.write(NAMES[0], data)
        assert data == objects.read(NAMES[0])
    assert [] == list((tmp_path / "store" / "incoming").iterdir())


@pytest.mark.parametrize("error", [PermissionError("no"), FileNotFoundError("gone meanwhile"), RuntimeError("the driver's own")])
def test_a_listing_that_cannot_be_finished_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A part of it would look like all of it: whoever counts or removes what is there would be wrong."""
    objects = FsspecObjects(f"file://{tmp_path}/store")
    for name in NAMES:
        objects.write(name, b"data")
    original = LocalFileSystem.ls

    def ls(system: LocalFileSystem, path: str, **kwargs: Any) -> Any:
        if path.endswith("b0"):
            raise error
        return original(system, path, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "ls", ls)
    with pytest.raises(FilesUnavailableError, match=str(error)):
        next(objects.iterate("files"))


def test_abandoned_copies_are_removed_where_there_is_a_rename(tmp_path: Path) -> None:
    """When it is first used, and nothing that may still be written."""
    incoming = tmp_path / "store" / "incoming"
    incoming.mkdir(parents=True)
    for name, age in (("old", ABANDONED_SECONDS + 1), ("new", 0)):
        (incoming / name).write_bytes(b"half")
        os.utime(incoming / name, (time.time() - age, time.time() - age))
    FsspecObjects(f"file://{tmp_path}/store").write(NAMES[0], b"data")
    assert [incoming / "new"] == list(incoming.iterdir())


@pytest.mark.system
def test_a_bucket_is_asked_for_once_and_by_no_listing_that_may_be_forbidden(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may have the right to a part of it alone."""
    objects = FsspecObjects(s3.create())
    asked = []

    def refuse(path: str) -> bool:
        asked.append(path)
        raise PermissionError("Forbidden")

    monkeypatch.setattr(objects._open()[0], "exists", refuse)
    assert [False, False] == [objects.exists(name) for name in NAMES[:2]]
    assert [S3.BUCKET] == asked


@pytest.mark.system
def test_a_server_that_is_down_is_unavailable_and_then_works_again(own_s3: S3) -> None:
    """Every call says so in a sentence without credentials; trying later cures it."""
    objects = FsspecObjects(own_s3.create())
    objects.write(NAMES[0], b"data")
    own_s3.stop()
    uses: list[Callable[[], Any]] = [
        lambda: objects.read(NAMES[0]),
        lambda: objects.write(NAMES[1], b""),
        lambda: list(objects.iterate("files")),
    ]
    for use in uses:
        with pytest.raises(FilesUnavailableError, match="do not answer: Could not connect") as raised:
            use()
        assert (7, True) == (raised.value.exit_code, raised.value.transient)
    own_s3.start()
    assert b"data" == objects.read(NAMES[0])


@pytest.mark.system
@pytest.mark.parametrize(
    ("url", "variables", "sentence"),
    [
        ("s3://nosuch/prefix", {}, "bucket does not exist"),
        ("s3://lastgood/prefix", {"AWS_SECRET_ACCESS_KEY": "swordfish"}, "signature"),
        ("s3://lastgood/prefix", {"AWS_ACCESS_KEY_ID": "mallory-mallory"}, "does not exist in our records"),
        ("s3://Not_A_Bucket!/x", {}, "bucket name"),
    ],
)
def test_a_bucket_that_refuses_is_unavailable_and_no_missing_file(
    own_s3: S3, monkeypatch: pytest.MonkeyPatch, url: str, variables: dict[str, str], sentence: str
) -> None:
    """What is wrong there is said, and nobody is sent to look for a backup; a secret is not told."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    objects = FsspecObjects(url)
    for use in (lambda: objects.read(NAMES[0]), lambda: objects.exists(NAMES[0]), lambda: objects.write(NAMES[0], b"data")):
        with pytest.raises(FilesUnavailableError, match=sentence) as raised:
            use()
        assert "swordfish" not in str(raised.value)


@pytest.mark.parametrize("url", ["s3://", "memory://", "simplecache::s3://bucket/x", "://x", "nothing"])
def test_a_url_that_names_no_place_is_refused_before_anything_is_asked(url: str) -> None:
    """Also one whose copies kept here could be old."""
    with pytest.raises(FilesUnsupportedError, match=r"expected a folder or one URL"):
        FsspecObjects(url)


@pytest.mark.parametrize(
    ("url", "sentence"), [("nosuch://user:swordfish@host/x", "Protocol not known: nosuch"), ("gs://bucket/x", "Install the driver")]
)
def test_a_place_without_a_driver_says_which_one_to_install(url: str, sentence: str) -> None:
    """When it is first needed."""
    with pytest.raises(FilesUnsupportedError, match=sentence) as raised:
        FsspecObjects(url).exists(NAMES[0])
    assert "swordfish" not in str(raised.value)


def test_a_missing_driver_of_an_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """As somebody has it who did not ask for S3."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(FilesUnsupportedError, match=r"pip install 'lastgood\[s3\]'"):
        FsspecObjects("s3://bucket/x").exists(NAMES[0])


def test_credentials_in_a_text_are_masked() -> None:
    """Those of a user, and whatever a query says."""
    text = 'no "s3://key:secret@bucket/a?token=secret" and http://host:1/b?X-Amz-Signature=secret.'
    assert 'no "s3://***@bucket/a?***" and http://host:1/b?***' == mask(text)
    assert "hdfs://***@host/x/files" == FsspecObjects("hdfs://ada@host/x/").locate("files")


def test_a_folder_or_a_files_url_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is relative to the file that sets it, or to where a command runs that has it from its environment."""
    (tmp_path / "lastgood.toml").write_text('files = "big/disk"', "utf-8")
    assert str(tmp_path / "big/disk") == load_settings(tmp_path).files_place
    monkeypatch.setenv("LASTGOOD_FILES", "s3://bucket/x")
    assert load_settings(tmp_path).files_place == "s3://bucket/x"
    monkeypatch.setenv("LASTGOOD_FILES", "here")
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / "here") == load_settings(tmp_path).files_place
    for place in (str(tmp_path / "here"), f"file://{tmp_path}/here"):
        assert isinstance(open_objects(place), FolderObjects)


def test_a_child_process_has_the_same_places(tmp_path: Path) -> None:
    """What a stack starts uses the catalogue and the files that it uses itself, whatever its own surroundings say."""
    settings = Settings(project=tmp_path, home=tmp_path / "home", database="postgresql://host/x", files="s3://bucket/x")
    variables = environment(settings)
    assert ("postgresql://host/x", "s3://bucket/x") == (variables["LASTGOOD_DATABASE"], variables["LASTGOOD_FILES"])
    here = Settings(project=tmp_path, home=tmp_path / "home")
    variables = environment(here)
    assert (here.database_url, here.files_place) == (variables["LASTGOOD_DATABASE"], variables["LASTGOOD_FILES"])


def test_a_drill_keeps_away_from_the_places_that_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bad versions go nowhere but into its own folder."""
    monkeypatch.setenv("LASTGOOD_DATABASE", "postgresql://host/x")
    monkeypatch.setenv("LASTGOOD_FILES", "s3://bucket/x")
    settings = settings_in(tmp_path)
    assert str(tmp_path / ".lastgood/registry") == settings.files_place == environment(settings)["LASTGOOD_FILES"]
    assert f"sqlite:///{tmp_path}/.lastgood/registry/catalogue.db" == environment(settings)["LASTGOOD_DATABASE"]


def test_opening_a_registry_asks_no_bucket(tmp_path: Path) -> None:
    """What needs no bytes works while the bucket does not, and imports nothing for it."""
    program = (
        "import sys; from lastgood.registry.registry import Registry; from lastgood.settings import Settings\n"
        "with Registry.open(Settings.model_validate_json(sys.argv[1]), writer='test') as registry: registry.models()\n"
        "sys.exit(' '.join({'fsspec', 's3fs', 'alembic', 'psycopg'} & set(sys.modules)) or 0)"
    )
    settings = Settings(project=tmp_path, home=tmp_path / "home", files="s3://nowhere/x")
    done = subprocess.run(
        [sys.executable, "-c", program, settings.model_dump_json()], capture_output=True, text=True, timeout=60, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)


def test_a_registry_in_a_bucket_keeps_its_lock_and_catalogue_here(tmp_path: Path) -> None:
    """Only the stored files are elsewhere."""
    settings = Settings(project=tmp_path, home=tmp_path / "home", files="memory://registry")
    Registry.open(settings, writer="test").close()
    assert {"catalogue.db", "lock"} <= {path.name for path in (settings.home / "registry").iterdir()}
    assert not (settings.home / "registry" / "incoming").exists()
