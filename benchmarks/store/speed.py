"""How fast files go in and out of the store, one core each, beside a copy that is hashed."""

import hashlib
import resource
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from lastgood.registry.store.layout import Tensor
from lastgood.registry.store.objects import FolderObjects
from lastgood.registry.store.store import SegmentedStore

TENSORS: Final = 8
ELEMENTS: Final = 2 << 20  # float32, of each tensor: a segment
DEEPEST: Final = 21  # the first place in a line that is read through three others
STEP: Final = 1e-5
Array = np.ndarray[Any, Any]


def measure_chain(folder: Path, repeat: int) -> dict[str, float]:
    """Put a line of versions, and measure its first and its deepest; bytes a second."""
    rng = np.random.default_rng(0)
    tensors = [(0.05 * rng.normal(size=ELEMENTS)).astype(np.float32) for _ in range(TENSORS)]
    store, like, found = SegmentedStore(FolderObjects(folder / "store"), workers=1), None, dict[str, float]()
    for place in range(DEEPEST + 1):
        file, located = _write(folder / "version", tensors)
        if place in {0, DEEPEST}:
            name = "whole" if place == 0 else "deepest"
            rates = [_measure(file, located, like, folder / "store", turn, repeat) for turn in range(repeat)]
            found |= {f"{name} {what}": statistics.median(rate[what] for rate in rates) for what in rates[0]}
        like = store.put(file, tensors=located, like=like)
        tensors = [tensor + (STEP * rng.normal(size=ELEMENTS)).astype(np.float32) for tensor in tensors]
    return found


def measure_memory(folder: Path, nbytes: int) -> int:
    """Put a file of so many bytes and fetch it again; give the most this process has had resident, bytes."""
    rng = np.random.default_rng(0)
    file, located = folder / "large", list[Tensor]()
    with file.open("wb") as sink:
        while sink.tell() < nbytes:
            sink.write(b"between" * 100)
            values = rng.normal(size=4 << 20).astype(np.float32)
            located.append(Tensor(f"tensor {len(located)}", "F32", values.shape, sink.tell(), values.nbytes))
            sink.write(values)
    store = SegmentedStore(FolderObjects(folder / "store"))
    sha256 = store.put(file, tensors=located)
    file.unlink()
    store.fetch(sha256, file)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _write(path: Path, tensors: list[Array]) -> tuple[Path, list[Tensor]]:
    located = []
    with path.open("wb") as sink:
        for index, values in enumerate(tensors):
            sink.write(b"between" * 10)
            located.append(Tensor(f"layer {index}", "F32", values.shape, sink.tell(), values.nbytes))
            sink.write(values)
    return path, located


def _measure(file: Path, located: list[Tensor], like: str | None, stored: Path, turn: int, repeat: int) -> dict[str, float]:
    """Put a file into a copy of the store and fetch it, with a copy that is hashed between; bytes a second."""
    own = stored.with_name(f"copy-{turn}")
    if stored.exists():
        shutil.copytree(stored, own)
    store = SegmentedStore(FolderObjects(own), workers=1)
    out, copied = file.with_name("out"), file.with_name("copied")
    names = list[str]()
    steps: dict[str, Callable[[], object]] = {
        "put": lambda: names.append(store.put(file, tensors=located, like=like)),
        "cp + sha256sum": lambda: (shutil.copyfile(file, copied), hashlib.sha256(copied.read_bytes())),
        "restore": lambda: store.fetch(names[0], out),
    }
    rates = {}
    for name, step in steps.items():
        began = time.perf_counter()
        step()
        rates[name] = file.stat().st_size / (time.perf_counter() - began)
    if out.read_bytes() != file.read_bytes():
        raise SystemExit(f"turn {turn} of {repeat}: another file came back")
    out.unlink()
    copied.unlink()
    shutil.rmtree(own)
    return rates
