"""Files as segments: every file comes back, a neighbour costs little, and damage is found where it lies."""

import hashlib
import os
import random
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.registry.errors import FileDamagedError, FileMissingError, InvalidSourceError
from lastgood.registry.store.layout import ITEM_BYTES, Tensor
from lastgood.registry.store.objects import ABANDONED_SECONDS, FolderObjects
from lastgood.registry.store.segments import DEPTH_MAX, SEGMENT_BYTES_MAX, Segments
from lastgood.registry.store.store import SegmentedStore

DTYPES = sorted(ITEM_BYTES)


def open_store(folder: Path) -> SegmentedStore:
    return SegmentedStore(FolderObjects(folder), workers=2)


def write(path: Path, *arrays: np.ndarray) -> tuple[Path, list[Tensor]]:
    """Write arrays with words between them."""
    tensors = []
    with path.open("wb") as sink:
        for index, array in enumerate(arrays):
            sink.write(b"between" * 3)
            names = {"float32": "F32", "float64": "F64", "int8": "I8"}
            tensors.append(Tensor(f"layer{index}/kernel", names[array.dtype.name], array.shape, sink.tell(), array.nbytes))
            sink.write(array.tobytes())
        sink.write(b"the end")
    return path, tensors


def weigh(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check_back(store: SegmentedStore, sha256: str, path: Path, folder: Path) -> None:
    back = folder / f"back-{random.getrandbits(60):x}"
    assert path.stat().st_size == store.fetch(sha256, back) == store.verify(sha256)
    assert path.read_bytes() == back.read_bytes()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


@st.composite
def layouts(draw: st.DrawFn) -> tuple[bytes, list[Tensor]]:
    """Bytes of any kind, and what somebody says about them: it may be wrong in every way."""
    data = np.random.default_rng(draw(st.integers(0, 2**32))).bytes(draw(st.integers(0, 200_000)))
    tensors = []
    for index in range(draw(st.integers(0, 5))):
        dtype = draw(st.sampled_from(DTYPES))
        count = draw(st.integers(0, 30_000))
        offset = draw(st.integers(0, max(1, len(data))))
        tensors.append(Tensor(draw(st.sampled_from(["a", "b", f"{index}"])), dtype, (count,), offset, count * ITEM_BYTES[dtype]))
    return data, tensors


@given(first=layouts(), second=layouts())
def test_any_file_comes_back_whatever_is_said_about_it(
    tmp_path_factory: pytest.TempPathFactory, first: tuple[bytes, list[Tensor]], second: tuple[bytes, list[Tensor]]
) -> None:
    """Also where it is kept as a difference to another that has nothing to do with it."""
    folder = tmp_path_factory.mktemp("store")
    store, like = open_store(folder / "store"), None
    for name, (data, tensors) in (("first", first), ("second", second), ("again", first)):
        path = folder / name
        path.write_bytes(data)
        like = store.put(path, tensors=tensors, like=like)
        check_back(store, like, path, folder)


def test_a_line_of_versions_costs_differences_and_is_read_through_three_others_at_most(tmp_path: Path) -> None:
    """Each version a step behind the one before."""
    store, source, like = open_store(tmp_path / "store"), np.random.default_rng(0), None
    weights = source.normal(scale=0.05, size=(256, 256)).astype(np.float32)
    stored = []
    for number in range(70):
        path, tensors = write(tmp_path / f"v{number}", weights)
        like = store.put(path, tensors=tensors, like=like)
        stored.append((like, path))
        weights = (weights + 1e-5 * source.normal(size=weights.shape)).astype(np.float32)
    assert weigh(tmp_path / "store") < 0.5 * 70 * weights.nbytes
    for sha256, path in stored:
        check_back(store, sha256, path, tmp_path)
    segments = Segments(FolderObjects(tmp_path / "store"))
    depths = []
    for folder in (tmp_path / "store" / "segments").iterdir():
        for file in folder.iterdir():
            depth, name = 0, folder.name + file.name
            while (base := segments.find_base(name)) is not None:
                depth, name = depth + 1, base
            depths.append(depth)
    assert DEPTH_MAX == max(depths)
    assert depths.count(0) <= 8  # 64 versions later one is kept alone, as the words between are


def test_the_same_tensor_is_kept_once_wherever_it_lies(tmp_path: Path) -> None:
    """In another file, under another name, at another place; and so is the same file."""
    store, source = open_store(tmp_path / "store"), np.random.default_rng(0)
    body, heads = source.normal(size=300_000), [source.normal(size=1000) for _ in range(3)]
    for number, head in enumerate(heads):
        path, tensors = write(tmp_path / f"v{number}", *([head, body] if number % 2 else [body, head]))
        check_back(store, store.put(path, tensors=tensors), path, tmp_path)
        store.put(path, tensors=tensors)
    assert weigh(tmp_path / "store") < 1.05 * (body.nbytes + 3 * heads[0].nbytes)


def test_a_tensor_of_several_segments_comes_back(tmp_path: Path) -> None:
    """And a change in one of them costs that one."""
    store, source = open_store(tmp_path / "store"), np.random.default_rng(0)
    values = source.normal(size=(2 * SEGMENT_BYTES_MAX + 8000) // 8)
    path, tensors = write(tmp_path / "one", values)
    first = store.put(path, tensors=tensors)
    check_back(store, first, path, tmp_path)
    before = weigh(tmp_path / "store")
    values[5] = 3.0
    path, tensors = write(tmp_path / "two", values)
    check_back(store, store.put(path, tensors=tensors, like=first), path, tmp_path)
    assert weigh(tmp_path / "store") - before < 0.02 * SEGMENT_BYTES_MAX


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << place % 8
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_is_found_and_said_where_and_storing_the_file_again_mends_it(tmp_path: Path, seed: int) -> None:
    """In a segment, in one that another is a difference to, or in the list."""
    store, source = open_store(tmp_path / "store"), np.random.default_rng(seed)
    weights = source.normal(size=5000).astype(np.float32)
    one, tensors = write(tmp_path / "one", weights, np.ones(3000, np.float32))
    first = store.put(one, tensors=tensors)
    two, tensors = write(tmp_path / "two", weights + np.float32(1e-6), np.ones(3000, np.float32))
    second = store.put(two, tensors=tensors, like=first)
    files = sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file())
    flip(files[seed % len(files)], int(source.integers(1 << 30)))
    damaged = []
    for sha256 in (first, second):
        try:
            store.verify(sha256)
        except FileDamagedError as exc:
            damaged.append(str(exc))
    assert damaged
    assert all("layer" in text or "between" in text or "list of segments" in text for text in damaged)
    for path in (one, two):
        store.put(path, tensors=tensors)
    check_back(store, first, one, tmp_path)
    check_back(store, second, two, tmp_path)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """Of the file, and of a segment."""
    store = open_store(tmp_path / "store")
    path, tensors = write(tmp_path / "one", np.random.default_rng(0).normal(size=5000))
    with pytest.raises(FileMissingError):
        store.verify("0" * 64)
    sha256 = store.put(path, tensors=tensors)
    for file in (tmp_path / "store" / "segments").rglob("*"):
        if file.is_file():
            file.unlink()
    with pytest.raises(FileMissingError, match="is gone"):
        store.fetch(sha256, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert sha256 == store.put(path, tensors=tensors)
    check_back(store, sha256, path, tmp_path)


def test_stored_bytes_are_read_only_and_abandoned_copies_are_removed(tmp_path: Path) -> None:
    """Nobody writes into them by accident; what a killed process left long ago goes, and nothing that may still be written."""
    store = open_store(tmp_path / "store")
    path, tensors = write(tmp_path / "one", np.zeros(5000))
    store.put(path, tensors=tensors)
    kept = [file for file in (tmp_path / "store").rglob("*") if file.is_file()]
    assert {0o444} == {stat.S_IMODE(file.stat().st_mode) for file in kept}
    old, new = tmp_path / "store/incoming/old", tmp_path / "store/incoming/new"
    for left in (old, new):
        left.write_bytes(b"half")
    long_ago = time.time() - ABANDONED_SECONDS - 1
    os.utime(old, (long_ago, long_ago))
    open_store(tmp_path / "store")
    assert [new] == list((tmp_path / "store/incoming").iterdir())


def test_fetch_never_writes_over_a_file(tmp_path: Path) -> None:
    """A destination that exists stays as it is."""
    store = open_store(tmp_path / "store")
    path, _ = write(tmp_path / "one", np.zeros(5))
    (tmp_path / "copy").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        store.fetch(store.put(path), tmp_path / "copy")
    assert b"mine" == (tmp_path / "copy").read_bytes()


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_put_refuses_what_is_no_file(tmp_path: Path, name: str) -> None:
    """A folder or nothing cannot be stored, and the message names it."""
    with pytest.raises(InvalidSourceError, match=str(tmp_path / name)):
        open_store(tmp_path / "store").put(tmp_path / name)
