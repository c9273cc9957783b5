"""Tensors of two versions: what became of each, in every format, and distances that numpy agrees with on whole arrays."""

import io
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from lastgood.registry.compare.distance import Distance, Distances
from lastgood.registry.compare.tensors import TensorChange
from lastgood.registry.compare.versions import Comparison, compare_versions
from lastgood.registry.errors import FileDamagedError, FileMissingError
from lastgood.registry.registry import Registry
from lastgood.registry.store.segments import SEGMENT_BYTES_MAX, Segments, path_of
from tests.registry.versions_of_files import DTYPES, Arrays, add_version, make_onnx, make_safetensors, save_external

h5py: Any = pytest.importorskip("h5py")
RANDOM = np.random.default_rng(5)


def make_npz(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own arguments
    return file.getvalue()


def make_hdf5(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        for name, array in arrays.items():
            h5[name] = array
    return file.getvalue()


FORMATS: dict[str, Callable[[Arrays], bytes]] = {
    "model.onnx": make_onnx,
    "m.safetensors": make_safetensors,
    "w.npz": make_npz,
    "w.h5": make_hdf5,
}


def compare(registry: Registry, folder: Path, before: dict[str, bytes], after: dict[str, bytes]) -> Comparison:
    return compare_versions(registry, add_version(registry, folder, before), add_version(registry, folder, after))


def by_name(comparison: Comparison) -> dict[str, TensorChange]:
    found = {own.name: own for own in comparison.tensors}
    assert len(found) == len(comparison.tensors)
    return found


def distance_of(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any], dtype: str | None = None) -> Distance:
    added = Distances(dtype or DTYPES[before.dtype.name])
    added.add(before.tobytes(), after.tobytes())
    return added.finish()


@pytest.mark.parametrize("name", FORMATS)
def test_each_tensor_is_told_what_became_of_it_in_every_format(registry: Registry, tmp_path: Path, name: str) -> None:
    """Large ones with segments of their own and small ones without: the answers are the same."""
    large, small = RANDOM.normal(size=(60, 70)).astype(np.float32), RANDOM.normal(size=7).astype(np.float32)
    before = {
        **{f"large.{what}": large + index for index, what in enumerate(("same", "changed", "old", "reshaped", "retyped", "removed"))},
        **{f"small.{what}": small + index for index, what in enumerate(("same", "changed", "old", "reshaped", "retyped", "removed"))},
    }
    after: dict[str, np.ndarray[Any, Any]] = {}
    for size in ("large", "small"):
        own = {key.partition(".")[2]: array for key, array in before.items() if key.startswith(size)}
        after |= {f"{size}.same": own["same"], f"{size}.changed": own["changed"] * np.float32(1.5), f"{size}.new": own["old"]}
        after |= {f"{size}.reshaped": own["reshaped"].reshape(1, -1), f"{size}.retyped": own["retyped"].astype(np.int8)}
        after |= {f"{size}.added": own["same"] * 3}
    found = by_name(compare(registry, tmp_path, {name: FORMATS[name](before)}, {name: FORMATS[name](after)}))
    for size in ("large", "small"):
        changes = {key.partition(".")[2]: own for key, own in found.items() if key.startswith(size)}
        assert {
            "same": "same",
            "changed": "changed",
            "new": "renamed",
            "reshaped": "reshaped",
            "retyped": "retyped",
            "added": "added",
            "removed": "removed",
        } == {key: own.change for key, own in changes.items()}
        assert changes["new"].before is not None
        assert f"{size}.old" == changes["new"].before.name
        assert changes["reshaped"].same_bytes
        assert not changes["retyped"].same_bytes
        assert changes["retyped"].distance is None  # an int8 beside a float32 is another thing, not another value
        was, now = before[f"{size}.changed"].astype(float).ravel(), after[f"{size}.changed"].astype(float).ravel()
        distance = changes["changed"].distance
        assert distance is not None
        assert np.linalg.norm(now - was) == pytest.approx(distance.l2, rel=1e-12)
        assert np.linalg.norm(now - was) / np.linalg.norm(was) == pytest.approx(distance.l2_relative, rel=1e-12)
        assert 1 - now @ was / np.linalg.norm(now) / np.linalg.norm(was) == pytest.approx(distance.cosine, abs=1e-14)
        assert distance.changed == int((now != was).sum())


def test_tensors_beside_the_model_are_compared(registry: Registry, tmp_path: Path) -> None:
    """External data, small tensors too: the model says where they lie, in the store as in a folder."""
    arrays = {"large": np.ones((50, 50), np.float32), "small": np.ones(3, np.float32), "same": np.arange(3000.0)}
    changed = {**arrays, "large": arrays["large"] * 2, "small": arrays["small"] * 3}
    found = by_name(compare(registry, tmp_path, save_external(arrays, tmp_path / "a"), save_external(changed, tmp_path / "b")))
    assert {"large": "changed", "small": "changed", "same": "same"} == {name: own.change for name, own in found.items()}
    assert {"weights.bin"} == {own.path for own in found.values()}
    assert [50.0, math.sqrt(12)] == [found[name].distance.l2 for name in ("large", "small")]  # type: ignore[union-attr]


def test_tensors_that_move_to_another_file_are_known_by_name(registry: Registry, tmp_path: Path) -> None:
    """A model whose weights are put beside it is no other model."""
    arrays = {"large": np.ones((50, 50), np.float32), "small": np.ones(3, np.float32)}
    changed = {**arrays, "small": arrays["small"] * 3}
    found = by_name(compare(registry, tmp_path, {"model.onnx": make_onnx(arrays)}, save_external(changed, tmp_path / "a")))
    assert {"large": "moved", "small": "changed"} == {name: own.change for name, own in found.items()}
    assert {("model.onnx", "weights.bin")} == {(own.before.path, own.after.path) for own in found.values() if own.before and own.after}


def test_what_is_stored_once_is_not_read(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unchanged tensor costs nothing, and an unchanged segment of a changed one is read once."""
    still = RANDOM.normal(size=3 * SEGMENT_BYTES_MAX // 8)
    moved = still + 1
    moved_on = moved.copy()
    moved_on[-1] = 7
    versions = [
        add_version(registry, tmp_path, {"m.safetensors": make_safetensors({"still": still, "moved": own})}) for own in (moved, moved_on)
    ]
    read: list[int] = []
    original = Segments.read

    def count(self: Segments, name: str) -> Any:
        data = original(self, name)
        read.append(len(data))
        return data

    monkeypatch.setattr(Segments, "read", count)
    changes = by_name(compare_versions(registry, versions[0], versions[1]))
    assert "same" == changes["still"].change
    assert changes["moved"].distance is not None
    assert 1 == changes["moved"].distance.changed
    assert abs(7 - moved[-1]) == changes["moved"].distance.l2
    assert [SEGMENT_BYTES_MAX] * 4 == [nbytes for nbytes in read if nbytes > 1 << 18]


def test_several_that_could_be_the_renamed_one_are_none(registry: Registry, tmp_path: Path) -> None:
    """Of two biases of zeros nobody knows which became which."""
    zeros = np.zeros(2000)
    before = make_safetensors({"a": zeros, "b": zeros, "c": zeros + 1})
    after = make_safetensors({"d": zeros, "e": zeros, "f": zeros + 1})
    found = {name: own.change for name, own in by_name(compare(registry, tmp_path, {"m": before}, {"m": after})).items()}
    assert {"a": "removed", "b": "removed", "d": "added", "e": "added", "f": "renamed"} == found


def test_empty_tensors_files_and_models_of_other_names_are_no_obstacle(registry: Registry, tmp_path: Path) -> None:
    """An empty tensor has nothing to compare; the models belong together whatever they are called."""
    ones = np.ones((30, 50), np.float32)
    one = make_onnx({"empty": np.zeros((0, 4), np.float32), "w": ones})
    other = make_onnx({"empty": np.zeros((0, 5), np.float32), "w": ones * 2})
    before = add_version(registry, tmp_path, {"old.onnx": one, "gone.npy": b""}, named="old.onnx")
    after = add_version(registry, tmp_path, {"new.onnx": other, "come.safetensors": make_safetensors({"t": ones})}, named="new.onnx")
    found = compare_versions(registry, before, after)
    assert {"w": "changed", "t": "added"} == {own.name: own.change for own in found.tensors}
    assert [("empty", "FLOAT [0, 4]", "FLOAT [0, 5]")] == [
        (own.name, own.before, own.after) for graph in found.graphs for own in graph.initializers
    ]
    sizes = {own.path: (own.bytes_before, own.bytes_after) for own in found.files}
    come = len(make_safetensors({"t": ones}))
    assert {"new.onnx": (len(one), len(other)), "come.safetensors": (None, come), "gone.npy": (0, None)} == sizes
    assert not distance_of(np.zeros(0, np.float32), np.zeros(0, np.float32)).changed_ratio


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_damage_is_said_with_version_file_and_tensor(registry: Registry, tmp_path: Path, damage: str) -> None:
    """Only what must be read: a damaged tensor that both share is `verify`'s business."""
    arrays = {"first": RANDOM.normal(size=4000), "second": RANDOM.normal(size=5000)}
    before = add_version(registry, tmp_path, {"m.safetensors": make_safetensors(arrays)})
    after = add_version(registry, tmp_path, {"m.safetensors": make_safetensors({**arrays, "second": arrays["second"] + 1})})
    stored = registry.open_files(before.digest)["m.safetensors"]
    (segment,) = (part for own in stored._tensors.values() if own.name == "second" for part in own.parts)
    objects, name = registry._files.objects, path_of(segment.sha256.hex())
    data = bytearray(objects.read(name))
    data[len(data) // 2] ^= 4
    objects.remove([name])
    if damage == "flip":
        objects.write(name, bytes(data))
    with pytest.raises(
        FileDamagedError if damage == "flip" else FileMissingError, match=f"m.safetensors of {before.digest}: tensor second"
    ):
        compare_versions(registry, before, after)


@pytest.mark.slow
def test_large_files_are_compared_in_little_memory(registry: Registry, tmp_path: Path) -> None:
    """What is held does not grow with the file."""
    first = RANDOM.normal(size=(96 << 20) // 4).astype(np.float32)
    second = first + np.float32(0.5)
    versions = [add_version(registry, tmp_path, {"m.safetensors": make_safetensors({"w": own})}) for own in (first, second)]
    norm = float(np.linalg.norm(second.astype(float) - first))
    del first, second
    tracemalloc.start()
    try:
        (change,) = compare_versions(registry, versions[0], versions[1]).tensors
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert change.distance is not None
    assert norm == pytest.approx(change.distance.l2, rel=1e-9)
    assert peak < 80 << 20


PAIRS = st.sampled_from(sorted(set(DTYPES) - {"uint16"})).flatmap(
    lambda name: st.integers(1, 400).flatmap(
        lambda length: st.tuples(*[arrays_of.arrays(name, length, elements=elements(name), fill=st.nothing())] * 2)
    )
)


def elements(name: str) -> Any:
    kind = np.dtype(name)
    if kind.kind == "f":
        return st.floats(-1e4, 1e4, width=kind.itemsize * 8, allow_subnormal=False)  # type: ignore[arg-type]  # a width, though computed
    return arrays_of.from_dtype(kind)


@given(PAIRS)
def test_distances_are_numpys(pair: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]) -> None:
    """Of any two arrays of one type, computed on all of it at once in the widest numbers there are."""
    before, after = pair
    found = distance_of(before, after)
    was, now = before.astype(np.longdouble), after.astype(np.longdouble)
    apart, norm, other = (np.sqrt((own**2).sum()) for own in (now - was, was, now))
    assert float(apart) == pytest.approx(found.l2, rel=1e-9)
    assert float(np.abs(now - was).max()) == pytest.approx(found.largest, rel=1e-12)
    assert (before.tobytes() != after.tobytes()) == bool(found.changed)
    assert (float(apart / norm) if norm else None) == (pytest.approx(found.l2_relative, rel=1e-9) if norm else found.l2_relative)
    if norm and other:
        assert float(1 - (was * now).sum() / norm / other) == pytest.approx(found.cosine, abs=1e-9)
    else:
        assert found.cosine is None


@given(st.floats(1e-12, 1e-5), st.integers(0, 1000))
def test_a_small_turn_is_not_lost_in_rounding(angle: float, seed: int) -> None:
    """1 minus a cosine of neighbours has no digits left when it is computed as it is written."""
    before = np.random.default_rng(seed).normal(size=1000)
    side = np.random.default_rng(seed + 1).normal(size=1000)
    side -= before * (side @ before) / (before @ before)
    side *= np.linalg.norm(before) / np.linalg.norm(side)
    found = distance_of(before, before + angle * side).cosine
    # The turned array is rounded too: no better than a float64 of each element can say.
    assert angle**2 / 2 == pytest.approx(found, rel=1e-3, abs=1e-31)


def test_a_scaled_tensor_has_no_angle() -> None:
    """All of the difference is length."""
    before = RANDOM.normal(size=500)
    found = distance_of(before, before * 4)
    assert 3.0 == pytest.approx(found.l2_relative)
    assert 0.0 == pytest.approx(found.cosine, abs=1e-14)
    assert 2.0 == pytest.approx(distance_of(before, -before).cosine)


def test_what_is_not_finite_is_counted_and_left_out() -> None:
    """Distances are of the places where both are finite, and say so by the counts."""
    before = np.array([1.0, np.nan, np.inf, 4.0, np.nan], np.float32)
    after = np.array([2.0, 5.0, -np.inf, 4.0, np.nan], np.float32)
    found = distance_of(before, after)
    assert (2, 1, 1, 1) == (found.nan_before, found.nan_after, found.infinite_before, found.infinite_after)
    assert (1.0, 1.0, 3) == (found.l2, found.largest, found.changed)
    assert 1 / math.sqrt(17) == pytest.approx(found.l2_relative)
    nothing = distance_of(np.full(3, np.nan), np.ones(3))
    assert (None, None, None, None, 3) == (nothing.l2, nothing.l2_relative, nothing.cosine, nothing.largest, nothing.changed)


def test_zeros_have_no_direction() -> None:
    """Nor is anything a part of them."""
    found = distance_of(np.zeros(4), np.ones(4))
    assert (2.0, None, None) == (found.l2, found.l2_relative, found.cosine)
    minus = distance_of(np.zeros(4), -np.zeros(4))
    assert (0.0, 4) == (minus.l2, minus.changed)


def test_the_edges_of_float64_and_of_integers_are_held() -> None:
    """Squares beyond float64, differences beyond it, and integers that float64 cannot tell apart."""
    huge = distance_of(np.array([1e300, 0.0]), np.array([0.0, 1e300]))
    assert [math.sqrt(2) * 1e300, 1.0] == pytest.approx([huge.l2, huge.cosine])
    tiny = distance_of(np.array([3e-300]), np.array([1e-300]))
    assert 2e-300 == pytest.approx(tiny.l2)
    beyond = distance_of(np.array([1.7e308]), np.array([-1.7e308]))
    assert [math.inf, 2.0] == pytest.approx([beyond.l2, beyond.l2_relative])
    assert 1.0 == distance_of(np.array([2**62]), np.array([2**62 + 1])).l2


def test_brain_floats_are_the_upper_half_of_float32() -> None:
    """They have no type in numpy."""
    values = np.array([[1.5, -2.0, 0.25], [1.0, -2.0, 8.25]], np.float32)
    before, after = (values.view(np.uint32) >> 16).astype(np.uint16)
    found = distance_of(before, after, "BF16")
    assert [math.sqrt(0.25 + 64), 8.0, 2] == pytest.approx([found.l2, found.largest, found.changed])
