"""Datasets of an HDF5 file, also of one in a Keras archive, found by h5py where that is there."""

import io
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

from lastgood.registry.store.layout import Source, Tensor
from lastgood.registry.store.locate.archive import find_begin, list_stored
from lastgood.registry.store.locate.bounds import arrange, shift
from lastgood.registry.store.locate.window import Part, UnreadableError, Window

MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_MEMBER: Final = "model.weights.h5"
_OBJECTS_MAX: Final = 20_000  # opened one by one, which takes some seconds
# Names of h5py's constants. A type that equals none of them bit for bit is left out.
_DTYPES: Final = {
    "STD_U8LE": "U8",
    "STD_U16LE": "U16",
    "STD_U32LE": "U32",
    "STD_U64LE": "U64",
    "STD_I8LE": "I8",
    "STD_I16LE": "I16",
    "STD_I32LE": "I32",
    "STD_I64LE": "I64",
    "IEEE_F16LE": "F16",
    "IEEE_F32LE": "F32",
    "IEEE_F64LE": "F64",
}


class _Stream(io.RawIOBase):
    """A file as h5py reads it, from a window."""

    def __init__(self, source: Source) -> None:
        self._window = Window(source)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._window.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        piece = self._window.peek(self._at, len(buffer))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def locate(source: Source) -> list[Tensor]:
    """
    Find the datasets that lie in one piece; chunked and compressed ones do not.

    Names are paths. Links to other files and soft links are not followed, and of a dataset with two names the first
    counts. What the HDF5 library does not open gives none.
    """
    try:
        h5py = import_module("h5py")
    except ImportError:
        return []
    try:
        return arrange(_list_datasets(h5py, source), source.size)
    except Exception:  # noqa: BLE001  what h5py raises for a broken file is of any kind: KeyError, RuntimeError, OverflowError…
        return []


def locate_archived(source: Source) -> list[Tensor]:
    """Find the datasets of a Keras archive's weights."""
    window = Window(source)
    try:
        for member in list_stored(window, _MEMBER):
            if member.name == _MEMBER:
                begin = find_begin(window, member)
                return shift(locate(Part(source, begin, member.size)), begin)
    except UnreadableError:
        pass  # an archive of something else
    return []


def _list_datasets(h5py: Any, source: Source) -> list[Tensor]:
    found: list[Tensor] = []
    visited = 0

    def visit(name: str, item: Any) -> bool | None:
        nonlocal visited
        visited += 1
        if isinstance(item, h5py.Dataset):
            found.extend(_read_dataset(h5py, name, item.id))
        return True if visited >= _OBJECTS_MAX else None  # anything but None ends the visit

    with h5py.File(_Stream(source), "r") as file:
        file.visititems(visit)
    return found


def _read_dataset(h5py: Any, name: str, dataset: Any) -> Iterator[Tensor]:
    creation = dataset.get_create_plist()
    offset = dataset.get_offset()
    if offset is None or creation.get_layout() != h5py.h5d.CONTIGUOUS or creation.get_nfilters() or creation.get_external_count():
        return
    written = dataset.get_type()
    dtype = next((dtype for constant, dtype in _DTYPES.items() if written == getattr(h5py.h5t, constant)), None)
    if dtype is None and written.dtype == bool:
        dtype = "BOOL"  # which h5py writes as an enumeration of two bytes' values
    if dtype is not None:
        yield Tensor(name, dtype, tuple(map(int, dataset.shape)), int(offset), int(dataset.get_storage_size()))
