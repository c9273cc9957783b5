"""Safetensors headers: real ones, and ones made to harm."""

import json
from typing import Any

import pytest

from lastgood.registry.store.layout import HEADER_BYTES_MAX, TENSORS_MAX
from lastgood.registry.store.locate.safetensors import is_safetensors, locate
from tests.registry.test_locate import DTYPES, Held, assert_located, assert_sound, make_arrays


def make(header: Any, data: bytes = b"\0" * 64, *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_a_file_of_the_library_is_located() -> None:
    """What safetensors itself writes is found, where the library is installed."""
    library: Any = pytest.importorskip("safetensors.numpy")
    arrays = {name: array for name, array in make_arrays().items() if name.rsplit("/", 1)[-1] in DTYPES}
    data = library.save(arrays)
    assert_located(locate(Held(data)), data, arrays)


def test_16_bit_brain_floats_are_located() -> None:
    """BF16, for which numpy has no type, is found by its size."""
    (tensor,) = locate(Held(make({"a": entry("BF16", [2, 4], [16, 32])})))
    assert ("BF16", (2, 4), 16) == (tensor.dtype, tensor.shape, tensor.nbytes)


@pytest.mark.parametrize(
    "lie",
    [
        entry(offsets=[0, 1 << 63]),
        entry(offsets=[0, 1 << 64]),
        entry(offsets=[-16, 0]),
        entry(offsets=[16, 0]),
        entry(offsets=[60, 76]),
        entry(offsets=[0, 16, 32]),
        entry(offsets="0"),
        entry(offsets=[0.5, 16.5]),
        entry(offsets=[0, 12]),
        entry(shape=[-4]),
        entry(shape=[-2, -2]),
        entry(shape=[1 << 32, 1 << 32, 1]),  # whose product is 0 in 64 bits
        entry(shape=[1 << 62, 4]),
        entry(shape=[4] + [1] * 100),
        entry(shape={}),
        entry(shape=["4"]),
        entry("F128"),
        entry("F8_E4M3", [16]),
        entry("F32", [0], [0, 0]),
        {},
    ],
)
def test_a_lying_entry_is_left_out_and_the_others_stay(lie: dict[str, Any]) -> None:
    """One entry that cannot be right does not cost the others."""
    located = locate(Held(make({"good": entry(offsets=[32, 48]), "lie": lie})))
    assert ["good"] == [tensor.name for tensor in located]


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\2\0\0\0\0\0\0\0",
        make({"a": entry()}, length=1 << 63),
        make({"a": entry()}, length=(1 << 64) - 1),
        make({"a": entry()}, length=10_000),
        make({"a": entry()}, length=3),
        make([entry()]),
        make({"a": 1}),
        make({"a": entry(dtype=4)}),
        make(b"{" * 100_000),
        make(b'{"a":' * 100_000),
        make(b'{"a":{"x":' + b"[" * 100_000),
        make(b'{"a\xff": {}}'),
        make(b'{"\\ud800": {}}'),
        make(b'{"a": {}} {}'),
    ],
    ids=range(15),
)
def test_a_header_that_is_none_gives_nothing(file: bytes) -> None:
    """Lengths beyond the file, other JSON, nesting without end and bytes that are no text give no tensor."""
    assert [] == locate(Held(file))


def test_overlapping_tensors_leave_the_first() -> None:
    """Of two tensors in one place one stays."""
    located = locate(Held(make({"a": entry(offsets=[8, 24]), "b": entry(offsets=[0, 16]), "c": entry(offsets=[24, 40])})))
    assert ["b", "c"] == [tensor.name for tensor in located]


@pytest.mark.parametrize(
    "header",
    [
        b"{" + b",".join(b'"%d":{}' % number for number in range(2 * TENSORS_MAX + 1)) + b"}",
        b'{"a":{"dtype":"U8","shape":[' + b"1," * 1_000_000 + b'1],"data_offsets":[0,1]}}',
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"__metadata__":[' + b"1," * 1_000_000 + b"1]}",
    ],
    ids=["entries", "dimensions", "metadata"],
)
def test_a_header_of_too_much_gives_nothing(header: bytes) -> None:
    """A header with more of anything than a file can have is not taken apart."""
    assert [] == locate(Held(make(header)))


def test_a_header_longer_than_is_read_gives_nothing_and_is_not_read() -> None:
    """The length alone is enough to refuse it."""
    source = Held(make(b"{", length=HEADER_BYTES_MAX), 1 << 40)
    assert [] == locate(source)
    assert source.bytes_read < 1000


def test_the_begin_of_a_file_tells_the_format() -> None:
    """Eight bytes of length and a brace."""
    data = make({"a": entry()})
    assert is_safetensors(data[:16])
    assert not is_safetensors(data[:8])
    assert not is_safetensors(b"PK\3\4" + b"{" * 4)
    assert_sound(locate(Held(data)), len(data))
