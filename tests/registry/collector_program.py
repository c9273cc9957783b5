"""
One of several processes that register the same contents, or collect, at once; started by test_collect.

    python collector_program.py SETTINGS NAME register|collect COUNT

Waits for a line on stdin. A registering one stores files that nobody registers, then registers versions of the same bytes, others doing the
same with the same bytes; a collecting one removes whatever no version needs, at once and again.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

from lastgood.registry import registration
from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.registry.store.places import open_objects, open_store
from lastgood.settings import Settings


def write_file(path: Path, number: int) -> Path:
    """Write a file of a line: each one is a small step from the one before."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=20_000).astype(np.float32)
    for _ in range(number):
        values = values + rng.normal(scale=1e-4, size=len(values)).astype(np.float32)
    np.save(path, values)
    return path


def main() -> None:
    """Do it."""
    registration.ATTEMPTS = 1000  # type: ignore[misc]  # here collections follow each other without a pause, and take what was written just now
    settings, name, kind, count = Settings.model_validate_json(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with Registry.open(settings, writer=name) as registry:
        for number in range(count):
            if kind == "collect":
                registry.collect(actor=name, recent_seconds=0)
                continue
            path = write_file(settings.project / f"{name}.npy", number)
            open_store(open_objects(settings.files_place)).put(path)  # left behind: nobody knows of it
            data = path.read_bytes()
            entry = FileEntry("weights.npy", len(data), hashlib.sha256(data).hexdigest())
            content = Content((entry,), (), (), None, model="weights.npy")
            registry.register("digits", content, {"weights.npy": path}, Record(name, "race"), actor=name)


main()
