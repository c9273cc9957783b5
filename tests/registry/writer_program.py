"""
One of several processes that write into the same registry at once; started by test_concurrency.

    python writer_program.py SETTINGS NAME COUNT

Waits for a line on stdin, so that all begin together. Registers COUNT versions of its own and one that everybody
registers; COUNT times adds 1 to a shared route, and takes the alias `champion` from whoever has it, by compare-and-swap.
"""

import hashlib
import sys
from pathlib import Path

from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.errors import AliasMovedError, RouteChangedError
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.settings import Settings


def register(registry: Registry, folder: Path, text: str, actor: str) -> Version:
    """Register a version whose only file holds the text."""
    path = folder / f"{actor}.onnx"
    path.write_text(text, "utf-8")
    entry = FileEntry("model.onnx", len(text), hashlib.sha256(text.encode()).hexdigest())
    return registry.register("digits", Content((entry,), (), (), None), {"model.onnx": path}, Record(actor, "race"), actor=actor)


def count_up(registry: Registry) -> None:
    """Add 1 to the route's count, however often somebody else is first."""
    while True:
        route = registry.route("digits")
        generation, count = (0, 0) if route is None else (route.generation, route.body["count"])
        try:
            with registry.transaction() as transaction:
                transaction.write_route("digits", {"count": count + 1}, expected=generation)
        except RouteChangedError:
            continue
        return


def take_alias(registry: Registry, name: str, digest: str) -> None:
    """Move the alias from where it points to a version, however often somebody else moves it first; says in its reason from where."""
    while True:
        champion = registry.aliases("digits").get("champion")
        held = None if champion is None else champion.digest
        try:
            registry.move_alias("digits", "champion", digest, expected=held, actor=name, why=str(held))
        except AliasMovedError:
            continue
        return


def main() -> None:
    """Do it."""
    settings, name, count = Settings.model_validate_json(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with Registry.open(settings, writer=name) as registry:
        for number in range(count):
            own = register(registry, settings.project, f"{name} {number}", name)
            register(registry, settings.project, "the same for all", name)
            count_up(registry)
            take_alias(registry, name, own.digest)


main()
