"""A process killed at any write leaves the old state or the new one."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.settings import Settings

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("crash_program.py")


def crash_everywhere(folder: Path, scenario: str, least: int) -> list[Path]:
    """Give the folder of each killed process, and last of the one that came to its end."""
    done = subprocess.run([sys.executable, str(PROGRAM), str(folder), scenario], capture_output=True, text=True, timeout=120, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    count = int(done.stdout)
    assert count > least  # else the wrapping no longer reaches what it is for
    return [folder / str(number) for number in range(1, count + 1)]


def open_again(folder: Path) -> Registry:
    return Registry.open(Settings(project=folder, home=folder / "home"), writer="after")


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


def test_a_registration_killed_anywhere_happened_or_did_not(tmp_path: Path) -> None:
    """
    From no registry at all to a version copied out, killed at each step.

    What is known is whole, what is served is whole, everything verifies, and doing it again gives version 1.
    """
    known = []
    for folder in crash_everywhere(tmp_path, "first", least=40):
        assert not (folder / "served").exists() or whole(folder / "served")
        with open_again(folder) as registry:
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


def test_a_withdrawal_killed_anywhere_is_whole_or_absent(tmp_path: Path) -> None:
    """Alias, tombstone and route change together; doing it again with the same key ends in the same state."""
    seen = []
    for folder in crash_everywhere(tmp_path, "withdraw", least=20):
        with open_again(folder) as registry:
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


def test_a_collection_killed_anywhere_takes_nothing_that_is_needed(tmp_path: Path) -> None:
    """Then a version is registered whose files were left, and may have been on their way out; the next collection ends the work."""
    left = []
    for folder in crash_everywhere(tmp_path, "collect", least=20):
        with open_again(folder) as registry:
            report = registry.verify()
            assert () == report.problems
            left.append(report.unreferenced_files)
            files = {name: folder / f"two-{name}" for name in ("golden.npz", "model.onnx")}
            entries = [FileEntry(name, len(data := path.read_bytes()), hashlib.sha256(data).hexdigest()) for name, path in files.items()]
            registry.register("digits", Content(tuple(entries), (), (), None), files, Record("ada", "two"), actor="ada")
            registry.collect(actor="ada", recent_seconds=0)
            report = registry.verify()
            assert ((), 4, 0) == (report.problems, report.files, report.unreferenced_files)
    assert {0, 4} <= set(left)
