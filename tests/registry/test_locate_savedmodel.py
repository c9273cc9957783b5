"""TensorFlow checkpoints: one that TensorFlow wrote, tables written here, and tables made to harm."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.registry.store.layout import Tensor
from lastgood.registry.store.locate.by_name import locate
from lastgood.registry.store.locate.savedmodel import is_index, locate_variables
from tests.registry.test_locate import Held, assert_located, assert_sound
from tests.registry.test_locate_onnx import message, varint

MAGIC = bytes.fromhex("57fb808b247547db")
HEADER = b"\x08\x02"  # two shards


def value(dtype: int = 1, shape: Sequence[int] = (4,), shard: int = 0, offset: int = 0, size: int = 16, more: bytes = b"") -> bytes:
    """Write a BundleEntryProto."""
    dims = b"".join(message(2, b"\x08" + varint(length % (1 << 64))) for length in shape)
    return b"\x08" + varint(dtype) + message(2, dims) + b"\x18" + varint(shard) + b"\x20" + varint(offset) + b"\x28" + varint(size) + more


def write_block(entries: Sequence[tuple[bytes, bytes]], restarts: int = 1) -> bytes:
    """Write a block as LevelDB does: what a key shares with the one before it only counted, and the places to start at."""
    block, before = b"", b""
    for key, content in entries:
        shared = next((at for at, (one, other) in enumerate(zip(before, key, strict=False)) if one != other), min(len(before), len(key)))
        block += varint(shared) + varint(len(key) - shared) + varint(len(content)) + key[shared:] + content
        before = key
    return block + b"\0\0\0\0" * min(restarts, 1) + restarts.to_bytes(4, "little")


def write_table(blocks: Sequence[bytes], handles: Sequence[bytes] | None = None, compression: int = 0) -> bytes:
    table, places = b"", []
    for block in blocks:
        places.append(varint(len(table)) + varint(len(block)))
        table += block + bytes([compression]) + b"\0\0\0\0"
    index = write_block([(number.to_bytes(4), place) for number, place in enumerate(places if handles is None else handles)])
    footer = varint(0) + varint(0) + varint(len(table)) + varint(len(index))
    return table + index + b"\0" * 5 + footer.ljust(40, b"\0") + MAGIC


def write_index(variables: dict[bytes, bytes], header: bytes = HEADER) -> bytes:
    entries = [(b"", header), *sorted(variables.items())]
    return write_table([write_block(entries[:2]), write_block(entries[2:])])


BLOCK = write_block([(b"", HEADER), (b"a", value())])
GOOD = write_index(
    {
        b"layer/bias": value(offset=0),
        b"layer/kernel": value(2, (3, 2), 0, 16, 48),
        b"other": value(9, (), 1, 8, 8),
        b"text": value(7, (1,), 0, 64, 9),
    }
)


def test_variables_are_found_by_shard() -> None:
    """Names, types, shapes and places stand in the index, texts are left out."""
    assert {
        0: [Tensor("layer/bias", "F32", (4,), 0, 16), Tensor("layer/kernel", "F64", (3, 2), 16, 48)],
        1: [Tensor("other", "I64", (), 8, 8)],
    } == locate_variables(Held(GOOD))


def test_a_data_file_is_read_by_the_index_beside_it() -> None:
    """The number in the file's name chooses; what lies behind the file's end is left out."""
    beside = {"variables/variables.index": Held(GOOD)}
    assert ["other"] == [found.name for found in locate("variables/variables.data-00001-of-00002", Held(b"\0" * 16), beside)]
    assert ["layer/bias"] == [found.name for found in locate("variables/variables.data-00000-of-00002", Held(b"\0" * 60), beside)]
    assert [] == locate("variables.data-00000-of-00002", Held(b"\0" * 60), beside)
    assert [] == locate("variables/variables.data-00000-of-00002", Held(b"\0" * 60), {"variables/variables.index": Held(b"no table")})
    assert [] == locate("variables/variables.index", Held(GOOD), {})


@pytest.mark.parametrize(
    "lie",
    [
        value(offset=1 << 63),
        value(size=1 << 63),
        value(size=12),
        value(shape=(-4,)),
        value(shape=(1 << 32, 1 << 32)),
        value(shape=(1,) * 70),
        value(shape=(0,), size=0),
        value(shard=2),
        value(shard=(1 << 64) - 1),
        value(dtype=8, size=32),
        value(dtype=20),
        value(dtype=1000),
        value(more=message(7, b"")),
        b"\x08\x01" + message(2, b"\x18\x01") + b"\x28\x04",
    ],
)
def test_a_lying_entry_is_left_out_and_the_others_stay(lie: bytes) -> None:
    """An entry that cannot be right does not cost the others; an offset far away falls to the file's size."""
    located = locate_variables(Held(write_index({b"a": lie, b"good": value(offset=32)})))
    assert {0: ["good"]} == {shard: [found.name for found in tensors if found.offset < 1 << 62] for shard, tensors in located.items()}


@pytest.mark.parametrize(
    "table",
    [
        b"",
        MAGIC,
        b"\xff" * 40 + MAGIC,
        write_table([write_block([(b"", HEADER), (b"a", value())])], compression=1),
        write_table([write_block([(b"", HEADER), (b"a", value())], restarts=0xFFFFFFFF)]),
        write_table([write_block([(b"", b"\x08\x01\x10\x01"), (b"a", value())])]),
        write_table([write_block([(b"a", value())])]),
        write_table([], handles=[varint(1 << 63) + varint(1 << 63)]),
        write_table([], handles=[varint(0) + varint(16)] * 20_000),
        write_table([BLOCK], handles=[varint(0) + varint(len(BLOCK))] * 2),
    ],
    ids=["none", "magic", "no handles", "compressed", "restarts", "big-endian", "no header", "far", "itself", "twice"],
)
def test_a_crafted_table_gives_nothing(table: bytes) -> None:
    """Tables that are cut, compressed, without a header, or whose blocks are elsewhere, themselves or each other."""
    source = Held(table)
    assert {} == locate_variables(source)
    assert source.reads < 50


def test_a_table_of_one_block_is_read() -> None:
    """The smallest table that has a tensor; the crafted ones differ from it in one thing."""
    assert {0: [Tensor("a", "F32", (4,), 0, 16)]} == locate_variables(Held(write_table([BLOCK])))


def test_an_index_that_names_itself_as_a_block_is_not_followed() -> None:
    """The block of handles is no block of entries."""
    index = write_block([(b"a", varint(0) + varint(14))])
    footer = varint(0) + varint(0) + varint(0) + varint(len(index))
    table = index + b"\0" * 5 + footer.ljust(40, b"\0") + MAGIC
    assert is_index(Held(table))
    assert {} == locate_variables(Held(table))


def test_keys_that_grow_without_end_are_not_followed() -> None:
    """A key that takes over the one before it again and again ends at a length."""
    entries = [(b"", HEADER), *((b"k" * length, value(offset=16 * length)) for length in range(1, 6000))]
    located = locate_variables(Held(write_table([write_block(entries)])))
    assert 4096 == len(located[0])
    assert_sound(located[0], 1 << 40)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6), st.none() | st.integers(0, len(GOOD)))
def test_a_damaged_index_gives_sound_lists(edits: list[tuple[int, int]], begin: int | None) -> None:
    """Whatever bytes are changed or missing, the lists are sound and little is read."""
    data = bytearray(GOOD)
    for at, byte in edits:
        data[at] = byte
    source = Held(bytes(data if begin is None else data[begin:]))
    for tensors in locate_variables(source).values():
        assert_sound(tensors, 1 << 65)
    assert source.bytes_read < 10_000


@pytest.mark.slow
def test_a_checkpoint_of_tensorflow_is_located(tmp_path: Path) -> None:
    """Each variable that TensorFlow saves is found with its bytes, many of them so that the table has blocks."""
    program = """
import sys
import numpy as np
import tensorflow as tf
kinds = ["float32", "float64", "float16", "int8", "uint8", "int32", "int64", "bool", "uint16", "complex64", "bfloat16"]
module = tf.Module()
module.all = {f"{kind}_{size}": tf.Variable(tf.cast(np.arange(size * 3).reshape(size, 3) % 7, kind)) for kind in kinds for size in (1, 500)}
module.more = [tf.Variable(np.full((2, 2), number, "int32"), name="a_rather_long_name") for number in range(3000)]
module.text = tf.Variable("text")
tf.saved_model.save(module, sys.argv[1])
reader = tf.train.load_checkpoint(sys.argv[1] + "/variables/variables")
plain = {n: reader.get_tensor(n) for n, d in reader.get_variable_to_dtype_map().items() if d not in (tf.string, tf.complex64, tf.bfloat16)}
np.savez(sys.argv[1] + "/expected.npz", **plain)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, timeout=200)
    (shard,) = (tmp_path / "variables").glob("variables.data-*")
    data, index = shard.read_bytes(), (tmp_path / "variables/variables.index").read_bytes()
    located = locate(f"variables/{shard.name}", Held(data), {"variables/variables.index": Held(index)})
    with np.load(tmp_path / "expected.npz") as expected:
        arrays = {name: expected[name] for name in expected.files}
    brain = [found for found in located if found.dtype == "BF16"]
    assert [6, 3000] == sorted(found.nbytes for found in brain)
    assert_located([found for found in located if found.dtype != "BF16"], data, arrays)
    assert len(arrays) > 3000
