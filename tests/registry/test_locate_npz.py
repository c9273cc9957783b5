"""NPY files and NPZ archives: real ones, and ones made to harm."""

import io
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from lastgood.registry.store.layout import HEADER_BYTES_MAX, TENSORS_MAX
from lastgood.registry.store.locate import archive
from lastgood.registry.store.locate.by_name import locate as locate_file
from lastgood.registry.store.locate.npz import locate, locate_array
from lastgood.registry.store.locate.window import Window
from tests.registry.test_locate import Held, assert_located, assert_sound, make_arrays, make_npz

ARRAYS = {"a": np.arange(12, dtype="<i4").reshape(3, 4), "b": np.arange(100, dtype="<f8")}


def write_npy(array: Any, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def zip_up(members: dict[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as written:
        for name, data in members.items():
            written.writestr(name, data)
        written.comment = comment
    return file.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_an_npy_file_of_each_version_is_located(version: tuple[int, int]) -> None:
    """The header is read in each of its versions."""
    data = write_npy(ARRAYS["b"], version)
    assert_located(locate_array(Held(data)), data, {"array": ARRAYS["b"]})


@pytest.mark.filterwarnings("ignore:Stored array in format")
@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.ones((3, 4))),
        np.ones(3, ">f4"),
        np.ones(3, "<c8"),
        np.array(["text"]),
        np.ones(3, [("x", "<f4")]),
        np.array(["2026-01-01"], "M8[D]"),
        np.ones((0, 4)),
    ],
    ids=["columns first", "big-endian", "complex", "text", "records", "dates", "empty"],
)
def test_what_is_no_row_of_plain_numbers_is_left_out(array: Any) -> None:
    """Other orders and types are not located."""
    assert [] == locate_array(Held(write_npy(array)))


def test_compressed_members_are_left_out() -> None:
    """Of an archive with both kinds of members those that were stored are found."""
    file = io.BytesIO()
    np.savez_compressed(file, **ARRAYS)  # type: ignore[arg-type]  # as above
    assert [] == locate(Held(file.getvalue()))
    with zipfile.ZipFile(file, "a") as written:
        written.writestr("c.npy", write_npy(ARRAYS["b"]), zipfile.ZIP_STORED)
    assert_located(locate(Held(file.getvalue())), file.getvalue(), {"c": ARRAYS["b"]})


def test_a_comment_and_bytes_before_the_archive_do_not_hide_it() -> None:
    """The directory is found from the end, and offsets count from where the archive begins."""
    plain = zip_up({f"{name}.npy": write_npy(array) for name, array in ARRAYS.items()}, comment=b"PK\5\6 or so")
    for before in (b"", b"#!/bin/sh\n"):
        assert_located(locate(Held(before + plain)), before + plain, ARRAYS)


def test_an_archive_with_the_numbers_of_zip64_is_located(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes, offsets and counts that stand in the longer records are read there."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    data = make_npz(ARRAYS)
    assert b"PK\x06\x06" in data
    assert_located(locate(Held(data)), data, ARRAYS)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("duplicates", [2, 3])
def test_members_of_one_name_are_all_found(duplicates: int) -> None:
    """Zip allows equal names; each array gets a name of its own."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for _ in range(duplicates):
            written.writestr("a.npy", write_npy(ARRAYS["a"]))
    assert ["a", *(f"a#{number}" for number in range(2, duplicates + 1))] == [tensor.name for tensor in locate(Held(file.getvalue()))]


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 16), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (100,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 100 + "), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1 1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (,), }",
        "{'descr': '|f4', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': __import__('os'), 'fortran_order': False, 'shape': (1,), }",
        "(" * 9000,
        " " * 9000,
    ],
)
def test_a_lying_array_header_gives_nothing(header: str) -> None:
    """Shapes that overflow, are negative or longer than the member, and expressions that are none of numpy's."""
    data = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + b"\0" * 64
    assert [] == locate_array(Held(data))
    good = write_npy(ARRAYS["a"])
    assert ["good"] == [tensor.name for tensor in locate(Held(zip_up({"bad.npy": data, "good.npy": good})))]


def test_an_array_header_that_claims_gigabytes_is_not_read() -> None:
    """The length of a header is limited as numpy limits it."""
    source = Held(b"\x93NUMPY\2\0" + b"\xff" * 4 + b"\0" * 64, 1 << 40)
    assert [] == locate_array(source)
    assert source.bytes_read < 1000


@pytest.mark.parametrize("entries", [2, 0xFFFF, 1_000_000])
def test_an_archive_that_claims_more_entries_than_it_has_is_read_to_its_end(entries: int) -> None:
    """The number that is claimed costs nothing: too many are refused, and a few more than there are do not matter."""
    directory = struct.pack("<4s4H4x3L5H2L", b"PK\1\2", 0, 0, 0, 0, 0, 1, 1, 5, 0, 0, 0, 0, 0, 0) + b"a.npy"
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, len(directory), 4)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 4 + len(directory), 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    source = Held(b"PK\3\4" + directory + end64 + locator + end)
    assert [] == locate(source)
    assert source.reads < 20


def test_an_archive_with_more_members_than_tensors_are_allowed_gives_nothing() -> None:
    """A directory of so many members, whatever number it claims, is left."""
    entry = struct.pack("<4s4H4x3L5H2L", b"PK\1\2", 0, 0, 0, 0, 0, 1, 1, 5, 0, 0, 0, 0, 0, 0) + b"a.npy"
    directory = entry * (TENSORS_MAX + 1)
    source = Held(b"PK\3\4" + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), 4, 0))
    assert [] == locate(source)


@pytest.mark.parametrize(
    ("field", "value"),
    [("<L", 0xFFFFFFFF), ("<L", 0xFFFFFFFE), ("<L", 0x7FFFFFFF), ("<L", 1)],
)
@pytest.mark.parametrize("at", [20, 24, 42], ids=["packed", "size", "header"])
def test_a_directory_entry_with_a_wrong_number_costs_that_member_only(at: int, field: str, value: int) -> None:
    """Sizes and offsets beyond the file or against each other leave the other members."""
    data = bytearray(make_npz(ARRAYS))
    struct.pack_into(field, data, data.index(b"PK\1\2") + at, value)
    located = locate(Held(bytes(data)))
    assert_sound(located, len(data))
    assert ["b"] == [tensor.name for tensor in located]


def test_an_archive_is_read_within_the_limit_whatever_it_may_be() -> None:
    """A directory as long as the limit is not read again to look for other members."""
    entry = struct.pack("<4s4H4x3L5H2L", b"PK\1\2", 0, 0, 0, 0, 0, 1, 1, 0xFFFF, 0, 0, 0, 0, 0, 0) + b"a" * 0xFFFF
    directory = entry * (HEADER_BYTES_MAX * 3 // 4 // len(entry))
    source = Held(b"PK\3\4" + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), 4, 0))
    assert [] == locate_file("a.npz", source, {})
    assert HEADER_BYTES_MAX // 2 < source.bytes_read <= HEADER_BYTES_MAX


def test_members_that_lie_over_each_other_leave_one() -> None:
    """An archive whose entries all point at one member, as bombs are built, gives it once."""
    data = make_npz({"a": ARRAYS["b"]})
    begin, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    directory = data[begin:end] * 1000
    bomb = data[:begin] + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1000, 1000, len(directory), begin, 0)
    located = locate(Held(bomb))
    assert [ARRAYS["b"].nbytes] == [tensor.nbytes for tensor in located]


def test_a_real_archive_of_many_members_is_located() -> None:
    """More members than 16 bits can count, as numpy writes them."""
    count = 0x10000 + 10
    data = make_npz({str(number): np.full(1, number, "<i4") for number in range(count)})
    located = locate(Held(data))
    assert count == len(located)
    assert all(data[tensor.offset : tensor.offset + 4] == int(tensor.name).to_bytes(4, "little") for tensor in located)


def test_encrypted_members_are_left_out() -> None:
    """Their bytes are not the array's, whatever their size."""
    data = bytearray(make_npz(ARRAYS))
    data[data.index(b"PK\1\2") + 8] |= 1
    assert ["b"] == [tensor.name for tensor in locate(Held(bytes(data)))]


def test_only_members_that_were_asked_for_are_listed() -> None:
    """The suffix chooses; encrypted and compressed ones are not listed."""
    data = zip_up({"a.npy": b"1", "b.txt": b"2"})
    window = Window(Held(data))
    assert ["b.txt"] == [member.name for member in archive.list_stored(window, ".txt")]
    assert_sound(locate(Held(make_npz(make_arrays(1)))), 1 << 30)
