"""Arrays that numpy wrote: one in a file of its own, or some in a zip archive that stores them as they are."""

import re
from collections.abc import Iterator
from typing import Final

from lastgood.registry.store.layout import Source, Tensor
from lastgood.registry.store.locate.archive import find_begin, list_stored
from lastgood.registry.store.locate.bounds import arrange, count_bytes
from lastgood.registry.store.locate.window import UnreadableError, Window

MAGIC: Final = b"\x93NUMPY"
_SUFFIX: Final = ".npy"
_HEADER_BYTES_MAX: Final = 10_000  # as numpy's own limit
# The spelling numpy and its imitators write. The header is a Python expression, and evaluating those is not for files of
# unknown origin. Big-endian types and fortran_order are not matched: their bytes are no row-major little-endian ones.
_HEADER: Final = re.compile(
    rb"\{\s*'descr'\s*:\s*'([<|])([a-z]\d)'\s*,\s*'fortran_order'\s*:\s*False\s*,\s*'shape'\s*:\s*\(([\d ,]*)\)\s*,?\s*\}\s*"
)
_DTYPES: Final = {
    b"b1": "BOOL",
    b"u1": "U8",
    b"u2": "U16",
    b"u4": "U32",
    b"u8": "U64",
    b"i1": "I8",
    b"i2": "I16",
    b"i4": "I32",
    b"i8": "I64",
    b"f2": "F16",
    b"f4": "F32",
    b"f8": "F64",
}
_DIGITS_MAX: Final = 20


def locate(source: Source) -> list[Tensor]:
    """Find the arrays of an NPZ archive; those that were compressed are not there to be found."""
    return arrange(_find(Window(source)), source.size)


def locate_array(source: Source) -> list[Tensor]:
    """Find the array of an NPY file."""
    return arrange(_read_array(Window(source), "array", 0, source.size), source.size)


def _find(window: Window) -> Iterator[Tensor]:
    for member in list_stored(window, _SUFFIX):
        try:
            yield from _read_array(window, member.name.removesuffix(_SUFFIX), find_begin(window, member), member.size)
        except UnreadableError:
            continue  # one broken member says nothing about the others


def _read_array(window: Window, name: str, begin: int, size: int) -> Iterator[Tensor]:
    """
    Read the header of one array that has so many bytes with it.

    Source: numpy.lib.format, "Format Version 1.0", "2.0", "3.0".
    """
    head = window.peek(begin, 12)
    if not head.startswith(MAGIC) or len(head) < 12 or head[6] not in {1, 2, 3}:
        return
    length_bytes = 2 if head[6] == 1 else 4
    length = int.from_bytes(head[8 : 8 + length_bytes], "little")
    data = begin + 8 + length_bytes + length
    if length > _HEADER_BYTES_MAX:
        return
    header = _HEADER.fullmatch(window.read(begin + 8 + length_bytes, length))
    if header is None or header[2] not in _DTYPES:
        return
    numbers = [number.strip() for number in header[3].split(b",")]
    if numbers[-1] == b"":
        numbers.pop()
    if not all(number.isdigit() and len(number) < _DIGITS_MAX for number in numbers):
        return
    dtype, shape = _DTYPES[header[2]], tuple(map(int, numbers))
    nbytes = count_bytes(dtype, shape)
    if data + nbytes <= begin + size and (header[1] == b"<" or header[2].endswith(b"1")):
        yield Tensor(name, dtype, shape, data, nbytes)
