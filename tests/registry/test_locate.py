"""Where tensors lie in real files of every format, and that no damaged or lying file harms who asks."""

import io
import json
import math
import zipfile
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lastgood.registry.store.layout import HEADER_BYTES_MAX, ITEM_BYTES, TENSORS_MAX, Tensor
from lastgood.registry.store.locate import hdf5, npz, safetensors, savedmodel
from lastgood.registry.store.locate import onnx as located_onnx
from lastgood.registry.store.locate.bounds import NAME_CHARS_MAX, arrange, clip, count_bytes, shift
from lastgood.registry.store.locate.by_name import locate
from lastgood.registry.store.locate.window import GROWN_BYTES, LOOKS_MAX, UnreadableError, Window

h5py: Any = pytest.importorskip("h5py")
Arrays = dict[str, npt.NDArray[Any]]
DTYPES: Final = {
    "BOOL": "bool",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}


class Held:
    """A file in memory, perhaps with zeros up to a size nobody has memory for; counts what is read of it."""

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self.size = len(data) if size is None else size
        self.reads = 0
        self.bytes_read = 0
        self._data = data

    def read_at(self, offset: int, count: int) -> bytes:
        """Read so many bytes from there; fewer only at the end."""
        assert offset >= 0
        assert count >= 0
        count = max(0, min(count, self.size - offset))
        self.reads += 1
        self.bytes_read += count
        return self._data[offset : offset + count].ljust(count, b"\0")


def make_arrays(seed: int = 0) -> Arrays:
    """An array of each type, some of them large, with a name that says its type."""
    random = np.random.default_rng(seed)
    shapes = [(40, 70), (3,), (5, 1, 9), ()]
    return {
        f"layer{number}/{dtype[0]}/{dtype}": random.integers(0, 2 if kind == "bool" else 100, shape).astype(kind)
        for number, shape in enumerate(shapes)
        for dtype, kind in DTYPES.items()
    }


def make_safetensors(arrays: Arrays) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "np", "shape": "as it is"}}
    offset = 0
    for name, array in arrays.items():
        dtype = name.rsplit("/", 1)[-1]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in arrays.values())


def make_npz(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own arguments
    return file.getvalue()


def make_hdf5(arrays: Arrays, **options: Any) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as h5:
        for name, array in arrays.items():
            h5[name] = array
    return file.getvalue()


def make_keras(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", make_hdf5(arrays))
    return file.getvalue()


def make_onnx(arrays: Arrays) -> bytes:
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = onnx.helper.make_graph([], "all", [], [], initializers)
    data: bytes = onnx.helper.make_model(graph).SerializeToString()
    return data


MAKERS: Final[Mapping[str, tuple[Callable[[Arrays], bytes], str]]] = {
    "safetensors": (make_safetensors, "model.safetensors"),
    "npz": (make_npz, "arrays.npz"),
    "hdf5": (make_hdf5, "weights.h5"),
    "hdf5-new": (lambda arrays: make_hdf5(arrays, libver="latest", track_order=True), "weights.h5"),
    "keras": (make_keras, "model.keras"),
    "onnx": (make_onnx, "model.onnx"),
}
SMALL: Final = {
    kind: make({name: array for name, array in make_arrays().items() if name.startswith(("layer1", "layer2"))})
    for kind, (make, _) in MAKERS.items()
}
MAGICS: Final = (
    b"PK\x03\x04",
    b"\x89HDF\r\n\x1a\n",
    b"\x93NUMPY\x01\x00",
    b'\x40\0\0\0\0\0\0\0{"',
    b"\x08\x0a\x3a",
    b"\x3a\x80\x01\x2a",
    b"",
)


def assert_sound(tensors: list[Tensor], size: int) -> None:
    """Assert what holds for the tensors of any file."""
    end = 0
    assert len(tensors) <= TENSORS_MAX
    for tensor in tensors:
        assert tensor.offset >= end
        end = tensor.offset + tensor.nbytes
        assert tensor.nbytes == math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype] > 0
        assert min(tensor.shape, default=0) >= 0
        tensor.name.encode()
    assert end <= size
    assert len(tensors) == len({tensor.name for tensor in tensors})


def assert_located(tensors: list[Tensor], data: bytes, arrays: Arrays) -> None:
    """Assert that the tensors are these arrays, by name, type, shape and every byte."""
    assert_sound(tensors, len(data))
    assert {tensor.name: tensor.shape for tensor in tensors} == {name: array.shape for name, array in arrays.items()}
    for tensor in tensors:
        array = arrays[tensor.name]
        assert np.dtype(DTYPES[tensor.dtype]) == array.dtype
        assert data[tensor.offset : tensor.offset + tensor.nbytes] == array.tobytes()


@pytest.mark.parametrize("kind", MAKERS)
def test_every_array_of_every_type_is_found_where_it_is(kind: str) -> None:
    """Of a file that its format's own library wrote, each array is found with its bytes."""
    make, name = MAKERS[kind]
    arrays = make_arrays()
    data = make(arrays)
    assert_located(locate(name, Held(data), {}), data, arrays)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_name_does_not_matter(kind: str) -> None:
    """A file is known by its content."""
    _, name = MAKERS[kind]
    data = SMALL[kind]
    assert locate(name, Held(data), {}) == locate("files/weights.bin", Held(data), {}) != []


@pytest.mark.parametrize("kind", MAKERS)
def test_large_tensors_are_not_read(kind: str) -> None:
    """Of megabytes of elements only what stands between them is read."""
    make, name = MAKERS[kind]
    data = make({f"{number}/F32": np.ones((1000, 1000), "<f4") for number in range(4)})
    source = Held(data)
    assert len(locate(name, source, {})) == 4
    assert source.bytes_read < 200_000
    assert source.reads < 200


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(MAKERS)),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255) | st.sampled_from([0, 1, 127, 128, 255])), max_size=8),
    st.none() | st.floats(0, 1),
    st.booleans(),
)
def test_a_damaged_file_gives_a_sound_list_and_costs_little(
    kind: str,
    edits: list[tuple[int, int]],
    kept: float | None,
    near: bool,  # noqa: FBT001
) -> None:
    """Whatever bytes are changed and wherever the file ends, no error leaves, the list is sound and little is read."""
    data = bytearray(SMALL[kind])
    for at, value in edits:
        data[at % (min(len(data), 1000) if near else len(data))] = value
    if kept is not None:
        del data[int(kept * len(data)) :]
    for name in (MAKERS[kind][1], "other"):
        source = Held(bytes(data))
        assert_sound(locate(name, source, {}), len(data))
        assert source.bytes_read < 20 * len(data) + 2048
        assert source.reads < 2000


@given(st.sampled_from(MAGICS), st.binary(max_size=600), st.sampled_from(["a.onnx", "v.data-00000-of-00001", "x"]))
@example(b"", b"", "a.onnx")
def test_noise_behind_any_magic_gives_a_sound_list(magic: bytes, noise: bytes, name: str) -> None:
    """Random bytes that begin as a format does, also as what lies beside a file, are read without harm."""
    source, beside = Held(magic + noise), Held(noise + magic)
    others = {"b.onnx": beside, "v.index": source}
    assert_sound(locate(name, source, others), source.size)
    assert max(source.reads, beside.reads) < 2000


@given(st.binary(max_size=400))
def test_every_locator_takes_any_bytes(data: bytes) -> None:
    """No locator needs its magic to be there."""
    for locator in (safetensors.locate, npz.locate, npz.locate_array, hdf5.locate, hdf5.locate_archived, located_onnx.locate):
        assert_sound(locator(Held(data)), len(data))
    for tensors in [*located_onnx.locate_external(Held(data)).values(), *savedmodel.locate_variables(Held(data)).values()]:
        assert_sound(tensors, 1 << 64)


TENSORS: Final = st.builds(
    Tensor,
    st.text(max_size=3) | st.sampled_from(["a", "a#2", "a#3", "", "\ud800", "é" * 2000]),
    st.sampled_from([*ITEM_BYTES, "F8"]),
    st.lists(st.integers(-1, 4) | st.just(1 << 62), max_size=3).map(tuple[int, ...]),
    st.integers(-2, 100),
    st.integers(-2, 40),
)


@given(
    st.lists(st.one_of(TENSORS, TENSORS.map(lambda t: Tensor(t.name, t.dtype, t.shape, t.offset, count_bytes(t.dtype, t.shape))))),
    st.integers(0, 100),
)
def test_any_tensors_are_arranged_into_a_sound_list(tensors: list[Tensor], size: int) -> None:
    """Overlapping, lying, empty, negative and equally named tensors leave a sound list, and a sound list stays as it is."""
    arranged = arrange(iter(tensors), size)
    assert_sound(arranged, size)
    assert arrange(arranged, size) == arranged
    assert clip(arrange(tensors, None), 0) == []
    assert shift(shift(arranged, 7), -7) == arranged


def test_of_overlapping_tensors_the_first_and_longest_stays() -> None:
    """The tensor that begins first is kept, and of two that begin together the longer."""
    long, short, inside, after = (  # the names are in the other order
        Tensor(name, "U8", (nbytes,), offset, nbytes)
        for name, offset, nbytes in [("z", 0, 8), ("a", 0, 4), ("inside", 7, 2), ("after", 8, 1)]
    )
    assert arrange([after, inside, short, long], 9) == [long, after]


def test_equal_names_are_numbered_in_the_order_of_the_file() -> None:
    """A name that is there again gets a number that no other tensor has for a name; one that is too long is cut."""
    names = ["a", "a", "a#2", "a", "", "b" * 2000, "\ud800"]
    arranged = arrange([Tensor(name, "U8", (1,), at, 1) for at, name in enumerate(names)], len(names))
    assert [tensor.name for tensor in arranged] == ["a", "a#2", "a#2#2", "a#3", "unnamed", "b" * NAME_CHARS_MAX, "?"]


def test_more_tensors_than_a_file_may_have_are_taken_for_bytes() -> None:
    """A list that is too long is no list; it is not even read to its end."""

    def endless() -> Any:
        at = 0
        while True:
            yield Tensor("a", "U8", (1,), at, 1)
            at += 1

    assert arrange(endless(), None) == []


def test_what_was_found_before_the_file_stops_making_sense_stays() -> None:
    """Tensors before a fault are where they are."""

    def broken() -> Any:
        yield Tensor("a", "U8", (1,), 0, 1)
        raise UnreadableError("here")

    assert [tensor.name for tensor in arrange(broken(), 1)] == ["a"]


@given(st.binary(min_size=1, max_size=3000), st.lists(st.tuples(st.integers(0, 3200), st.integers(0, 700)), max_size=30))
def test_a_window_shows_what_the_file_holds(data: bytes, pieces: list[tuple[int, int]]) -> None:
    """Pieces in any order are the file's, fewer bytes only at its end; a piece that is not all there can be refused."""
    window = Window(Held(data))
    for offset, count in pieces:
        assert window.peek(offset, count) == data[offset : offset + count]
        if offset + count <= len(data):
            assert window.read(offset, count) == data[offset : offset + count]
        else:
            with pytest.raises(UnreadableError):
                window.read(offset, count)


def test_a_window_reads_no_more_than_its_limit() -> None:
    """Jumping through a huge file ends when as much was read as is allowed, and in a small one by the number of pieces."""
    huge = Held(b"", 1 << 50)
    window = Window(huge)
    with pytest.raises(UnreadableError, match="read of one file"):
        deque(window.peek(at << 20, 1) for at in range(LOOKS_MAX))
    assert HEADER_BYTES_MAX - 512 <= huge.bytes_read <= HEADER_BYTES_MAX
    small = Window(Held(b"abc"))
    with pytest.raises(UnreadableError, match="pieces"):
        deque((small.peek(0, 1) for _ in range(LOOKS_MAX + 1)), maxlen=1)


def test_a_window_reads_ahead_only_where_it_goes_on_in_order() -> None:
    """A megabyte read byte by byte needs few reads, and none twice."""
    source = Held(b"x" * (1 << 20))
    window = Window(source)
    for at in range(0, 1 << 20, 16):
        window.read(at, 16)
    assert source.bytes_read == 1 << 20
    assert source.reads < 12 + (1 << 20) // GROWN_BYTES


@pytest.mark.parametrize("kind", sorted(set(MAKERS) - {"hdf5", "hdf5-new"}))
def test_a_huge_file_that_holds_nothing_else_is_read_within_the_limit(kind: str) -> None:
    """A terabyte of zeros behind a real file does not matter."""
    source = Held(SMALL[kind], 1 << 40)
    assert_sound(locate(MAKERS[kind][1], source, {}), 1 << 40)
    assert source.bytes_read <= HEADER_BYTES_MAX
