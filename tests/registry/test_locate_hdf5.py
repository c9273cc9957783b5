"""HDF5 files and Keras archives: real ones, and ones that hold what has no one place."""

import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lastgood.registry.store.locate import hdf5
from tests.registry.test_locate import Held, assert_located, make_arrays, make_hdf5, make_keras

h5py: Any = pytest.importorskip("h5py")
ARRAY = np.arange(64, dtype="<f4").reshape(8, 8)


def write(fill: Any = None, **options: Any) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as h5:
        if fill is not None:
            fill(h5)
        h5["good"] = ARRAY
    return file.getvalue()


def test_bytes_before_the_file_are_counted() -> None:
    """Offsets are those of the whole file, also where another header stands before HDF5's."""
    data = write(userblock_size=512)
    assert_located(hdf5.locate(Held(data)), data, {"good": ARRAY})


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


def test_no_more_objects_are_visited_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of very many objects gives the first of them."""
    monkeypatch.setattr(hdf5, "_OBJECTS_MAX", 5)
    assert 5 == len(hdf5.locate(Held(make_hdf5({str(number): ARRAY for number in range(9)}))))


def test_without_h5py_nothing_is_located(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library comes with TensorFlow and is not needed."""
    data = make_hdf5({"a": ARRAY})
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert [] == hdf5.locate(Held(data))


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
