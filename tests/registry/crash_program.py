"""
A process that is killed at the Nth step of a write, once for each N; started by test_crash.

    python crash_program.py SCENARIO

Each line on stdin is a number and a registry's settings, and is answered by a line. For 0 the registry is prepared and nobody is killed.
For N = 1, 2, … a child works in it and kills itself (SIGKILL) at the Nth step: before or after a call of fsync, replace, rename, unlink or
mkdir, a commit, or the writing or removing of objects in a bucket, or before a statement that changes something. The answer is `killed`, or
`done` from the first child that lives to its end: it had no step N. All wrapping is done here; the product knows nothing of it.
"""

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.registry.store.places import open_objects, open_store
from lastgood.registry.store.remote_objects import FsspecObjects
from lastgood.settings import Settings

READING = ("SELECT", "PRAGMA", "SHOW")


class Steps:
    """Counts steps and dies at one of them."""

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal
        self.done = 0

    def step(self) -> None:
        self.done += 1
        if self.done == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, owner: Any, name: str) -> None:
        """Let a step come before a function of a module or class, and one after it."""
        original: Callable[..., Any] = getattr(owner, name)

        def stepped(*args: Any, **kwargs: Any) -> Any:
            self.step()
            result = original(*args, **kwargs)
            self.step()
            return result

        setattr(owner, name, stepped)

    def wrap_statements(self, name: str) -> None:
        """Let a step come before each statement; one that reads leaves what the one before left."""
        original: Callable[..., Any] = getattr(DefaultDialect, name)

        def stepped(dialect: DefaultDialect, cursor: Any, statement: str, *args: Any, **kwargs: Any) -> Any:
            if not statement.lstrip().upper().startswith(READING):
                self.step()
            return original(dialect, cursor, statement, *args, **kwargs)

        setattr(DefaultDialect, name, stepped)


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


def open_registry(settings: Settings) -> Registry:
    return Registry.open(settings, writer="crash")


def run_first(settings: Settings) -> None:
    """Make a registry, register a version, copy it out."""
    with open_registry(settings) as registry:
        registry.materialize(register(registry, settings.project, "one"), settings.project / "served")


def run_withdraw(settings: Settings) -> None:
    """In a registry with two versions, put the first back and take the second out, in one transaction."""
    with open_registry(settings) as registry:
        first, second = (version.digest for version in registry.versions("digits"))
        with registry.transaction() as transaction:
            transaction.move_alias("digits", "live", first, actor="gateway", why="fallback", expected=second)
            transaction.tombstone(second, model="digits", cause="judge", actor="gateway", why="failed", payload={})
            transaction.write_route("digits", {"live": first}, expected=1, idempotency="withdrawal")


def prepare_withdraw(settings: Settings) -> None:
    with open_registry(settings) as registry:
        register(registry, settings.project, "one")
        second = register(registry, settings.project, "two")
        with registry.transaction() as transaction:
            transaction.move_alias("digits", "live", second, actor="gateway", why="soaked")
            transaction.write_route("digits", {"live": second}, expected=0)


def run_collect(settings: Settings) -> None:
    """Remove what a registration left."""
    with open_registry(settings) as registry:
        registry.collect(actor="crash", recent_seconds=0)


def prepare_collect(settings: Settings) -> None:
    with open_registry(settings) as registry:
        register(registry, settings.project, "one")
    for text in ("two", "three"):
        for path in draft(settings.project, text)[1].values():
            open_store(open_objects(settings.files_place)).put(path)


SCENARIOS = {"first": (run_first, run_first), "withdraw": (prepare_withdraw, run_withdraw), "collect": (prepare_collect, run_collect)}


def die_at(fatal: int, settings: Settings, run: Callable[[Settings], None]) -> None:
    """Run a scenario and be killed at a step."""
    steps = Steps(fatal)
    for name in ("fsync", "replace", "mkdir", "rename", "unlink"):
        steps.wrap(os, name)
    for name in ("write", "remove"):
        steps.wrap(FsspecObjects, name)
    steps.wrap(DefaultDialect, "do_commit")
    for name in ("do_execute", "do_executemany"):
        steps.wrap_statements(name)
    run(settings)


def kill(fatal: int, settings: Settings, run: Callable[[Settings], None]) -> str:
    """Let a child die, or live to its end."""
    child = os.fork()
    if child == 0:
        die_at(fatal, settings, run)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        return "done"
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        sys.exit(f"the child of step {fatal} ended with status {status}")
    return "killed"


def main() -> None:
    """Kill one child for each line."""
    prepare, run = SCENARIOS[sys.argv[1]]
    for line in sys.stdin:
        number, given = line.split(maxsplit=1)
        settings, answer = Settings.model_validate_json(given), "prepared"
        if number == "0":
            prepare(settings)  # here, so that the children find every statement compiled
        else:
            answer = kill(int(number), settings, run)
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
