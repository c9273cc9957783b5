"""A process killed at any write leaves the old state or the new one."""

import hashlib
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.settings import Settings
from tests.registry.places import Places, only_local

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("crash_program.py")


def crash_everywhere(places: Places, folder: Path, scenario: str, least: int) -> Iterator[Settings]:
    """Give the settings of each killed process, and last of the one that came to its end."""
    process = subprocess.Popen([sys.executable, str(PROGRAM), scenario], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    told, answers = process.stdin, process.stdout
    assert told is not None
    assert answers is not None

    def ask(number: int, settings: Settings) -> str:
        settings.project.mkdir(exist_ok=True)
        told.write(f"{number} {settings.model_dump_json()}\n")
        told.flush()
        return answers.readline().strip()

    with process:
        try:
            origin = places.new(folder / "origin")
            assert ask(0, origin) == "prepared"
            for number in itertools.count(1):
                child = folder / str(number)
                settings = places.new(child) if scenario == "first" else places.copy(origin, child)
                answer = ask(number, settings)
                assert answer in {"killed", "done"}
                yield settings
                if answer == "done":
                    break
        finally:
            told.close()
    assert process.returncode == 0
    assert number > least  # else the wrapping no longer reaches what it is for


def register_one(registry: Registry, folder: Path) -> int:
    files, entries = {}, []
    for name in ("golden.npz", "model.onnx"):
        data = f"{name} one".encode()
        files[name] = folder / f"one-{name}"
        files[name].write_bytes(data)
        entries.append(FileEntry(name, len(data), hashlib.sha256(data).hexdigest()))
    return registry.register("digits", Content(tuple(entries), (), (), None), files, Record("ada", "one"), actor="ada").number


def whole(folder: Path) -> bool:
    return {name: (folder / name).read_bytes() for name in ("golden.npz", "model.onnx")} == {
        name: f"{name} one".encode() for name in ("golden.npz", "model.onnx")
    }


def test_a_registration_killed_anywhere_happened_or_did_not(places: Places, tmp_path: Path) -> None:
    """
    From no registry at all to a version copied out, killed at each step.

    What is known is whole, what is served is whole, everything verifies, and doing it again gives version 1.
    """
    known = []
    for settings in crash_everywhere(places, tmp_path, "first", least=40):
        folder = settings.project
        assert not (folder / "served").exists() or whole(folder / "served")
        with Registry.open(settings, writer="after") as registry:
            assert () == registry.verify().problems
            known.append(len(registry.models()))
            for version in registry.versions("digits") if registry.models() else []:
                assert whole(registry.materialize(version.digest, folder / "copy"))
            assert register_one(registry, folder) == 1
            assert whole(registry.materialize(registry.resolve("digits").digest, folder / "served"))
            report = registry.verify()
            assert ((), 2, 0) == (report.problems, report.files, report.unreferenced_files)
    # From some step on the version is there, and before it is not: both were seen.
    assert sorted(known) == known
    assert {0, 1} == set(known)


def test_a_withdrawal_killed_anywhere_is_whole_or_absent(places: Places, tmp_path: Path) -> None:
    """Alias, tombstone and route change together; doing it again with the same key ends in the same state."""
    seen = []
    for settings in crash_everywhere(places, tmp_path, "withdraw", least=20):
        with Registry.open(settings, writer="after") as registry:
            assert () == registry.verify().problems
            first, second = (version.digest for version in registry.versions("digits"))
            route = registry.route("digits")
            assert route is not None
            state = (registry.aliases("digits")["live"].digest, set(registry.tombstones()), route.generation, route.body["live"])
            assert state in ((second, set(), 1, second), (first, {second}, 2, first))
            seen.append(route.generation)
            with registry.transaction() as transaction:
                transaction.move_alias("digits", "live", first, actor="gateway", why="fallback")
                transaction.tombstone(second, model="digits", cause="judge", actor="gateway", why="failed", payload={})
                assert transaction.write_route("digits", {"live": first}, expected=1, idempotency="withdrawal") == 2
            assert () == registry.verify().problems
    assert sorted(seen) == seen
    assert {1, 2} == set(seen)


@only_local
def test_a_collection_killed_anywhere_takes_nothing_that_is_needed(places: Places, tmp_path: Path) -> None:
    """Then a version is registered whose files were left, and may have been on their way out; the next collection ends the work."""
    left = []
    for settings in crash_everywhere(places, tmp_path, "collect", least=20):
        with Registry.open(settings, writer="after") as registry:
            report = registry.verify()
            assert () == report.problems
            left.append(report.unreferenced_files)
            files = {name: settings.project / f"two-{name}" for name in ("golden.npz", "model.onnx")}
            for name, path in files.items():
                path.write_bytes(f"{name} two".encode())
            entries = [FileEntry(name, len(data := path.read_bytes()), hashlib.sha256(data).hexdigest()) for name, path in files.items()]
            registry.register("digits", Content(tuple(entries), (), (), None), files, Record("ada", "two"), actor="ada")
            registry.collect(actor="ada", recent_seconds=0)
            report = registry.verify()
            assert ((), 4, 0) == (report.problems, report.files, report.unreferenced_files)
    assert {0, 4} <= set(left)
