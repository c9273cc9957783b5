"""HDF5 files and Keras archives: real ones, and ones that hold what has no one place."""

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lastgood.registry.store.locate import hdf5
from tests.registry.test_locate import Held, assert_located, make_arrays, make_hdf5, make_keras

h5py: Any = pytest.importorskip("h5py")
ARRAY = np.arange(64, dtype="<f4").reshape(8, 8)
F32 = bytes([0x11, 0x20, 31, 0]) + struct.pack("<L2H4BL", 4, 0, 32, 23, 8, 0, 23, 127)


def write(fill: Any = None, **options: Any) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as h5:
        if fill is not None:
            fill(h5)
        h5["good"] = ARRAY
    return file.getvalue()


def test_only_datasets_in_one_piece_are_located(tmp_path: Path) -> None:
    """Chunks, filters, other files, other orders and types, virtual, compact and empty datasets are left out."""

    def fill(h5: Any) -> None:
        h5.create_dataset("chunks", data=ARRAY, chunks=(4, 4))
        h5.create_dataset("filters", data=ARRAY, compression="gzip")
        h5.create_dataset("elsewhere", (8,), "<f4", external=[(str(tmp_path / "raw"), 0, 32)])
        h5.create_dataset("big-endian", data=ARRAY.astype(">f4"))
        h5.create_dataset("complex", data=ARRAY.astype("<c8"))
        h5.create_dataset("text", data=["a", "b"])
        h5.create_dataset("records", data=np.ones(3, [("x", "<f4")]))
        h5.create_dataset("never written", (8,), "<f4")
        h5.create_dataset("empty", (0, 4), "<f4")
        h5.create_dataset("null", data=h5py.Empty("f4"))
        layout = h5py.VirtualLayout((8, 8), "<f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "good", (8, 8))
        h5.create_virtual_dataset("virtual", layout)
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        h5py.h5d.create(h5.id, b"compact", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((2,)), compact)

    data = write(fill)
    assert_located(hdf5.locate(Held(data)), data, {"good": ARRAY})


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Soft and external links give nothing, a second name of a dataset no second tensor, a group in itself no loop."""
    other = tmp_path / "other.h5"
    other.write_bytes(write())

    def fill(h5: Any) -> None:
        h5["soft"] = h5py.SoftLink("/good")
        h5["external"] = h5py.ExternalLink(str(other), "good")
        h5["a/again"] = h5["/"]
        h5["zz"] = h5["first"] = ARRAY + 1
        h5["zzz"] = h5["first"]

    data = write(fill)
    assert ["first", "good", "zz"] == sorted(tensor.name for tensor in hdf5.locate(Held(data)))


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"track_order": True}, {"libver": ("v108", "v110")}], ids=str)
def test_versions_of_the_format_are_read(options: dict[str, Any]) -> None:
    """Older and newer superblocks, headers and groups, with attributes, groups in groups and many blocks of messages."""

    def fill(h5: Any) -> None:
        for name in ("a/b/c/d/e", "a/b/f"):
            group = h5.create_group(name)
            for number in range(7):
                group.attrs[f"attribute {number}"] = "long" * 100
                group[f"{number}"] = ARRAY + number
            h5[name].attrs["late"] = np.ones(50)

    data = write(fill, **options)
    expected = {f"{name}/{number}": ARRAY + number for name in ("a/b/c/d/e", "a/b/f") for number in range(7)}
    assert_located(hdf5.locate(Held(data)), data, {"good": ARRAY, **expected})


def test_groups_of_thousands_of_members_are_read() -> None:
    """The tree of a large group has levels."""
    arrays = {f"group/{number}": np.full(2, number, "<i4") for number in range(3000)}
    data = make_hdf5(arrays)
    assert_located(hdf5.locate(Held(data)), data, arrays)


def test_links_in_an_index_and_files_behind_other_bytes_are_left_out() -> None:
    """What h5py writes on request only is not searched."""
    arrays = {f"group/{number}": ARRAY for number in range(9)}
    assert [] == hdf5.locate(Held(make_hdf5(arrays, track_order=True)))
    assert [] == hdf5.locate(Held(make_hdf5(arrays, userblock_size=512)))


def test_brain_floats_are_located() -> None:
    """BF16, for which HDF5 has no name, is known by its bits; a float with other bits is not."""
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_ebias(127)
    other = h5py.h5t.IEEE_F32LE.copy()
    other.set_ebias(126)

    def fill(h5: Any) -> None:
        for name, written in (("brain", kind), ("other", other)):
            dataset = h5py.h5d.create(h5.id, name.encode(), written, h5py.h5s.create_simple((8, 8)))
            dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, ARRAY)

    assert [("brain", "BF16", 128)] == [
        (found.name, found.dtype, found.nbytes) for found in hdf5.locate(Held(write(fill))) if found.name != "good"
    ]


def test_objects_with_a_type_of_their_own_name_are_left_out() -> None:
    """A committed type stands in another object, which is not looked up."""

    def fill(h5: Any) -> None:
        h5["kind"] = np.dtype("<f4")
        h5.create_dataset("of kind", data=ARRAY, dtype=h5["kind"])

    data = write(fill)
    assert_located(hdf5.locate(Held(data)), data, {"good": ARRAY})


def test_a_compressed_member_of_an_archive_is_left() -> None:
    """Weights that were deflated, or have another name, are not in the archive as they are."""
    for name, method in [("model.weights.h5", zipfile.ZIP_DEFLATED), ("other/model.weights.h5", zipfile.ZIP_STORED)]:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr(name, make_hdf5({"a": ARRAY}))
        assert [] == hdf5.locate_archived(Held(file.getvalue()))
    arrays = make_arrays(2)
    data = make_keras(arrays)
    assert_located(hdf5.locate_archived(Held(data)), data, arrays)


@pytest.mark.parametrize("value", [0, 1, 96, 255])
def test_any_changed_byte_of_the_first_header_is_survived(value: int) -> None:
    """Each byte of the superblock and the root group, one after the other."""
    data = make_hdf5({"a/b": ARRAY})
    for at in range(900):
        changed = data[:at] + bytes([value]) + data[at + 1 :]
        source = Held(changed)
        for tensor in hdf5.locate(source):
            assert tensor.offset + tensor.nbytes <= len(data)
        assert source.reads < 1000


DATASET = [(1, b"\1\1" + b"\0" * 6 + struct.pack("<Q", 16)), (3, F32), (8, b"\3\1" + struct.pack("<2Q", 2048, 64))]


def superblock(root: int) -> bytearray:
    """Write the begin of a file of version 2, with room for objects."""
    data = bytearray(4096)
    data[:12] = hdf5.MAGIC + bytes([2, 8, 8, 0])
    struct.pack_into("<4Q", data, 12, 0, (1 << 64) - 1, len(data), root)
    return data


def header(data: bytearray, at: int, messages: list[tuple[int, bytes]], size: int | None = None, *, flags: int = 0) -> None:
    """Write an object's header of version 1."""
    content = b"".join(struct.pack("<2HB3x", kind, len(body), flags) + body for kind, body in messages)
    struct.pack_into("<BxHLL4x", data, at, 1, len(messages), 1, len(content) if size is None else size)
    data[at + 16 : at + 16 + len(content)] = content


def pack(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def test_crafted_headers_end() -> None:
    """Continuations that lead to themselves, trees and groups that hold themselves, and counts without what they count."""
    messages = [(16, pack(64 + 16, 24))]
    itself = superblock(64)
    header(itself, 64, messages)
    many = superblock(64)
    header(many, 64, [(16, pack(64 + 16, 24 * 20))] * 20)
    tree = superblock(64)
    header(tree, 64, [(17, pack(256, 512))])
    tree[256:264] = b"TREE\0\0\xff\xff"
    for child in range(200):
        tree[256 + 32 + 16 * child : 256 + 40 + 16 * child] = pack(256)
    tree[512:544] = b"HEAP\0\0\0\0" + pack(100, 0, 1024)
    nodes = bytearray(tree)
    nodes[288:296] = pack(2048)
    nodes[2048:2056] = b"SNOD\1\0\xff\xff"
    nodes[2056:2076] = pack(0, 64) + b"\0" * 4
    far = superblock(1 << 63)
    beyond = superblock(64)
    header(beyond, 64, [(17, pack(256, 512))], size=0xFFFFFFFF)
    for data in (itself, many, tree, nodes, far, beyond):
        source = Held(bytes(data))
        assert [] == hdf5.locate(source)
        assert source.reads < 2000


@pytest.mark.parametrize(
    ("dims", "nbytes", "address"),
    [
        ((1 << 63, 2), 0, 64),
        ((1 << 32, 1 << 32), 0, 64),
        ((16,), 1 << 63, 64),
        ((1 << 60,), 1 << 62, 64),
        ((16,), 64, (1 << 64) - 1),
        ((16,), 64, 4090),
        ((0,), 0, 64),
    ],
)
def test_lying_datasets_are_left_out(dims: tuple[int, ...], nbytes: int, address: int) -> None:
    """Shapes that overflow, sizes that are not theirs, and places behind the file's end."""
    data = superblock(64)
    messages = [(1, bytes([1, len(dims)]) + b"\0" * 6 + pack(*dims)), (3, F32), (8, b"\3\1" + pack(address, nbytes))]
    header(data, 64, messages)
    assert [] == hdf5.locate(Held(bytes(data)))


def test_a_dataset_that_is_filtered_elsewhere_or_described_elsewhere_is_left_out() -> None:
    """The smallest dataset is found, and not with a message that says that its elements are not there as they are."""
    data = superblock(64)
    header(data, 64, DATASET)
    assert [(2048, 64)] == [(found.offset, found.nbytes) for found in hdf5.locate(Held(bytes(data)))]
    for kind in (7, 11):
        header(data, 64, [*DATASET, (kind, b"\0" * 8)])
        assert [] == hdf5.locate(Held(bytes(data)))
    header(data, 64, DATASET, flags=2)
    assert [] == hdf5.locate(Held(bytes(data)))


def test_a_tree_that_holds_itself_is_read_once() -> None:
    """Work is not spent on what was seen: a member that is listed after thousands of such entries is found."""
    data = superblock(64).ljust(1 << 21, b"\0")
    header(data, 64, [(17, pack(4096, 512))])
    data[512:544] = b"HEAP\0\0\0\0" + pack(100, 0, 1024)
    data[1024:1025] = b"a"
    data[4096:4104] = b"TREE\0\0\xff\xff"
    for child in range(0xFFFF):
        data[4096 + 32 + 16 * child : 4096 + 40 + 16 * child] = pack(3000 if child == 0 else 4096)
    data[3000:3008] = b"SNOD\1\0\1\0"
    data[3008:3024] = pack(0, 1200)
    header(data, 1200, DATASET)
    assert ["a"] == [found.name for found in hdf5.locate(Held(bytes(data)))]


def test_very_deep_groups_end_at_the_length_of_a_path() -> None:
    """A thousand groups in each other, and a dataset at the end whose path is too long for a name."""

    def fill(h5: Any) -> None:
        group = h5
        for _ in range(1000):
            group = group.create_group("g")
        group["deep"] = ARRAY
        h5["g/g/near"] = ARRAY

    assert ["g/g/near", "good"] == sorted(found.name for found in hdf5.locate(Held(write(fill))))
