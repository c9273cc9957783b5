"""
A process that is killed at the Nth step of a write, once for each N; started by test_crash.

    python crash_program.py FOLDER SCENARIO

For N = 1, 2, … a child works in FOLDER/N and kills itself (SIGKILL) at the Nth step: before or after a call of
fsync, replace, rename, unlink or mkdir or a commit, or before a statement. The first child that lives to its end had no
step N; its number is written to stdout. All wrapping is done here; the product knows nothing of it.
"""

import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.registry.store.objects import FolderObjects
from lastgood.registry.store.store import SegmentedStore
from lastgood.settings import Settings


class Steps:
    """Counts steps and dies at one of them."""

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal
        self.done = 0

    def step(self) -> None:
        self.done += 1
        if self.done == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, owner: Any, name: str, *, after: bool = True) -> None:
        """Let a step come before a function of a module or class, and one after it."""
        original: Callable[..., Any] = getattr(owner, name)

        def stepped(*args: Any, **kwargs: Any) -> Any:
            self.step()
            result = original(*args, **kwargs)
            if after:
                self.step()
            return result

        setattr(owner, name, stepped)


def draft(folder: Path, text: str) -> tuple[Content, dict[str, Path]]:
    """Make two files and the content that lists them."""
    files, entries = {}, []
    for name in ("golden.npz", "model.onnx"):
        data = f"{name} {text}".encode()
        files[name] = folder / f"{text}-{name}"
        files[name].write_bytes(data)
        entries.append(FileEntry(name, len(data), hashlib.sha256(data).hexdigest()))
    return Content(tuple(entries), (), (), None), files


def register(registry: Registry, folder: Path, text: str) -> str:
    content, files = draft(folder, text)
    return registry.register("digits", content, files, Record("ada", text), actor="ada").digest


def open_registry(folder: Path) -> Registry:
    return Registry.open(Settings(project=folder, home=folder / "home"), writer="crash")


def run_first(folder: Path) -> None:
    """Make a registry, register a version, copy it out."""
    with open_registry(folder) as registry:
        registry.materialize(register(registry, folder, "one"), folder / "served")


def run_withdraw(folder: Path) -> None:
    """In a registry with two versions, put the first back and take the second out, in one transaction."""
    with open_registry(folder) as registry:
        first, second = (version.digest for version in registry.versions("digits"))
        with registry.transaction() as transaction:
            transaction.move_alias("digits", "live", first, actor="gateway", why="fallback", expected=second)
            transaction.tombstone(second, model="digits", cause="judge", actor="gateway", why="failed", payload={})
            transaction.write_route("digits", {"live": first}, expected=1, idempotency="withdrawal")


def prepare_withdraw(folder: Path) -> None:
    with open_registry(folder) as registry:
        register(registry, folder, "one")
        second = register(registry, folder, "two")
        with registry.transaction() as transaction:
            transaction.move_alias("digits", "live", second, actor="gateway", why="soaked")
            transaction.write_route("digits", {"live": second}, expected=0)


def run_collect(folder: Path) -> None:
    """Remove what a registration left."""
    with open_registry(folder) as registry:
        registry.collect(actor="crash", recent_seconds=0)


def prepare_collect(folder: Path) -> None:
    with open_registry(folder) as registry:
        register(registry, folder, "one")
        for text in ("two", "three"):
            for path in draft(folder, text)[1].values():
                SegmentedStore(FolderObjects(folder / "home" / "registry")).put(path)


SCENARIOS = {"first": (None, run_first), "withdraw": (prepare_withdraw, run_withdraw), "collect": (prepare_collect, run_collect)}


def die_at(fatal: int, folder: Path, run: Callable[[Path], None]) -> None:
    """Run a scenario and be killed at a step."""
    steps = Steps(fatal)
    for name in ("fsync", "replace", "mkdir", "rename", "unlink"):
        steps.wrap(os, name)
    steps.wrap(DefaultDialect, "do_commit")
    for name in ("do_execute", "do_executemany"):
        steps.wrap(DefaultDialect, name, after=False)
    run(folder)


def main() -> None:
    """Kill one child per step until one survives."""
    root, (prepare, run), fatal = Path(sys.argv[1]), SCENARIOS[sys.argv[2]], 0
    rehearsal, origin = root / "rehearsal", root / "origin"
    for folder in (rehearsal, origin):
        folder.mkdir()
        if prepare is not None:
            prepare(folder)
    run(rehearsal)  # so that the children find every statement compiled
    while True:
        fatal += 1
        folder = root / str(fatal)
        shutil.copytree(origin, folder)
        child = os.fork()
        if child == 0:
            die_at(fatal, folder, run)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status == 0:
            break
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(f"the child of step {fatal} ended with status {status}")
    sys.stdout.write(f"{fatal}\n")


if __name__ == "__main__":
    main()
