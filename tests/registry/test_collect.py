"""Collections: what no version needs goes, what one needs or is about to need stays, whoever is killed when."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lastgood.errors import IntegrityError
from lastgood.registry import catalogue, registration, storing
from lastgood.registry.collect import RECENT_SECONDS, Collection
from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.errors import DigestTombstonedError
from lastgood.registry.log import utc_now
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.registry.store.places import open_objects, open_store
from lastgood.settings import Settings
from tests.registry.places import name_of, only_local
from tests.registry.racing import run_at_once, take_steps

PROGRAM = Path(__file__).with_name("collector_program.py")
Store = Callable[[Path], str]


@pytest.fixture
def weights(tmp_path: Path) -> Iterator[Path]:
    """Files of a line: each one is a small step from the one before."""

    def step() -> Iterator[Path]:
        for number, values in enumerate(take_steps()):
            path = tmp_path / f"{number}.npy"
            np.save(path, values)
            yield path

    return step()


@pytest.fixture
def leave(settings: Settings) -> Store:
    """Store a file that no version has, as a registration does that is killed."""
    return lambda path: open_store(open_objects(settings.files_place)).put(path)


def register(registry: Registry, path: Path, model: str = "digits") -> Version:
    entry = FileEntry("weights.npy", path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    content = Content((entry,), (), (), None, model="weights.npy")
    return registry.register(model, content, {"weights.npy": path}, Record("ada", "a test"), actor="ada")


def list_objects(settings: Settings) -> set[str]:
    return set(open_store(open_objects(settings.files_place)).list_objects())


def collect(registry: Registry) -> int:
    return registry.collect(actor="ada", recent_seconds=0).objects


def test_what_no_version_needs_goes_and_the_rest_stays(
    registry: Registry, settings: Settings, weights: Iterator[Path], leave: Store
) -> None:
    """Differences included: what a version is read through is needed, though no version lists it."""
    for _ in range(6):
        register(registry, next(weights))
    needed = list_objects(settings)
    assert collect(registry) == 0
    leave(next(weights))
    left = list_objects(settings) - needed
    looked = registry.collect(actor="ada", recent_seconds=0, dry_run=True)
    sizes = [measured[0] for name in left if (measured := open_objects(settings.files_place).measure(name)) is not None]
    assert (len(left), sum(sizes), len(needed)) == (looked.objects, looked.bytes, looked.kept)
    assert left | needed == list_objects(settings)
    assert registry.verify().unreferenced_files == 1
    assert len(left) == collect(registry)
    assert needed == list_objects(settings)
    report = registry.verify()
    assert ((), 0) == (report.problems, report.unreferenced_files)
    event = registry.events(newest_first=True, limit=1)[0]
    assert ("collected", "ada", len(left), looked.bytes) == (event.kind, event.actor, event.payload["objects"], event.payload["bytes"])


@only_local
def test_what_was_written_just_now_is_left_alone(registry: Registry, settings: Settings, weights: Iterator[Path], leave: Store) -> None:
    """A registration that goes on would have to store it again."""
    leave(next(weights))
    objects = list_objects(settings)
    found = registry.collect(actor="ada")
    assert (0, len(objects)) == (found.objects, found.recent)
    for name in objects:
        os.utime(settings.home / "registry" / name, (time.time() - RECENT_SECONDS - 1,) * 2)
    found = registry.collect(actor="ada")
    assert (len(objects), 0) == (found.objects, found.recent)
    assert not list_objects(settings)


@pytest.mark.parametrize("collections", ["condemned", "once", "often"])
def test_what_a_registration_found_is_there_when_its_version_is(
    registry: Registry, settings: Settings, weights: Iterator[Path], leave: Store, monkeypatch: pytest.MonkeyPatch, collections: str
) -> None:
    """A file that was left is used again by a registration; before that is known, collections remove what they find."""
    path = next(weights)
    leave(path)
    leave(next(weights))
    runs = {"condemned": 0, "once": 1, "often": 4}[collections]
    original, stored = storing.store_files, 0

    def store_then_collect(*args: object) -> None:
        nonlocal stored
        stored += 1
        original(*args)  # type: ignore[arg-type]  # whatever it was given
        if stored > 1:
            return
        if not runs:  # a collection that is killed when it has said what it will remove
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Collection, "_remove", lambda *_: None)
                collect(registry)
        for _ in range(runs):
            collect(registry)
            leave(path)  # somebody else comes by
        if runs:
            collect(registry)
            assert not list_objects(settings)

    monkeypatch.setattr(registration, "store_files", store_then_collect)
    version = register(registry, path)
    assert 2 == stored
    collect(registry)
    assert () == registry.verify().problems
    copy = registry.materialize(version.digest, settings.home / "copy")
    assert path.read_bytes() == (copy / "weights.npy").read_bytes()
    assert 0 == collect(registry)
    assert registry.verify().unreferenced_files == 0


def test_what_a_killed_collection_was_about_to_remove_is_spared(registry: Registry, weights: Iterator[Path], leave: Store) -> None:
    """A registration that begins afterwards finds a file that the next collection would remove."""
    path = next(weights)
    leave(path)
    killed = Collection(registry._database, registry._files.store, writer="test", clock=utc_now, recent_seconds=0)
    killed._condemn(killed._find_doomed()[0])
    register(registry, path)
    collect(registry)
    report = registry.verify()
    assert ((), 1, 0) == (report.problems, report.files, report.unreferenced_files)


def test_a_version_that_comes_while_a_collection_looks_keeps_its_files(
    registry: Registry, settings: Settings, weights: Iterator[Path], leave: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered when the collection has found its files not needed, before it has written them down."""
    path = next(weights)
    leave(path)
    original = Collection._find_doomed

    def find_then_register(self: Collection) -> tuple[dict[str, int], int]:
        found = original(self)
        assert found[0]
        monkeypatch.undo()
        register(registry, path)
        return found

    monkeypatch.setattr(Collection, "_find_doomed", find_then_register)
    registry.collect(actor="ada", recent_seconds=0)
    report = registry.verify()
    assert ((), 1, 0) == (report.problems, report.files, report.unreferenced_files)


def test_nothing_is_removed_where_a_list_cannot_be_read(
    registry: Registry, settings: Settings, weights: Iterator[Path], leave: Store
) -> None:
    """What a damaged list or segment needs is not known; the other objects may be what mends it."""
    version = register(registry, next(weights))
    register(registry, next(weights))
    sha256 = registry.content(version.digest).files[0].sha256
    stored = open_objects(settings.files_place)
    read_first, read_next = name_of(sha256), max(stored.iterate("segments"), key=lambda name: len(stored.read(name)))
    leave(next(weights))
    objects = list_objects(settings)
    for damaged in (read_first, read_next):
        data = stored.read(damaged)
        stored.write(damaged, data[:20] + bytes([data[20] ^ 1]) + data[21:])
        with pytest.raises(IntegrityError, match=damaged[-8:]):
            collect(registry)
        assert objects == list_objects(settings)
        stored.write(damaged, data)
    assert collect(registry) > 0
    assert () == registry.verify().problems


def test_a_tombstone_that_is_lifted_meanwhile_does_not_make_a_version_without_files(
    registry: Registry, settings: Settings, weights: Iterator[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of what is refused are not stored; when it is allowed before it is refused, they are."""
    path = next(weights)
    version = register(registry, path)
    with registry.transaction() as transaction:
        transaction.tombstone(version.digest, model="digits", cause="person", actor="ada", why="bad", payload={})
    with pytest.raises(DigestTombstonedError):
        register(registry, path, model="other")
    open_objects(settings.files_place).remove(sorted(list_objects(settings)))
    original = catalogue.tombstone_of

    def find_then_lift(*args: object) -> object:
        found = original(*args)  # type: ignore[arg-type]  # whatever it was given
        monkeypatch.undo()
        registry.lift(version.digest, actor="ada", why="it was not")
        return found

    monkeypatch.setattr(catalogue, "tombstone_of", find_then_lift)
    register(registry, path, model="other")
    assert () == registry.verify().problems


@pytest.mark.slow
def test_writers_and_collectors_at_once_lose_nothing(settings: Settings) -> None:
    """Four processes register the same bytes, two collect all that no version needs, however new it is."""
    rounds = 12
    jobs = [*((f"writer-{number}", "register") for number in range(4)), *((f"collector-{number}", "collect") for number in range(2))]
    settings.home.mkdir(parents=True)
    text = settings.model_dump_json()
    run_at_once(PROGRAM, [(text, name, kind, str(rounds * (3 if kind == "collect" else 1))) for name, kind in jobs], seconds=240)
    with Registry.open(settings, writer="test") as registry:
        assert list(range(1, rounds + 1)) == [version.number for version in registry.versions("digits")]
        report = registry.verify()
        assert ((), rounds) == (report.problems, report.files - report.unreferenced_files)
        collect(registry)
        report = registry.verify()
        assert ((), rounds, 0) == (report.problems, report.files, report.unreferenced_files)
