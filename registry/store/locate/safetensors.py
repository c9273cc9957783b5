"""Tensors of a safetensors file."""

from collections.abc import Iterator
from typing import Final

import msgspec

from lastgood.registry.store.layout import HEADER_BYTES_MAX, TENSORS_MAX, Source, Tensor
from lastgood.registry.store.locate.bounds import arrange
from lastgood.registry.store.locate.window import UnreadableError, Window

_LENGTH_BYTES: Final = 8
_LIST_CHARS_MAX: Final = 2000  # of a shape or a pair of offsets: 64 numbers of 20 digits and more
_ABSENT: Final = msgspec.Raw(b"")
_NUMBERS: Final = msgspec.json.Decoder(list[int])


class _Entry(msgspec.Struct):
    """
    One member of the header.

    Raw pieces stay as they lie in the header until they are known to be short, so that a header of a few bytes a number
    does not become a list of millions of objects. The metadata have none of these fields and pass as well.
    """

    dtype: str = ""
    shape: msgspec.Raw = _ABSENT
    data_offsets: msgspec.Raw = _ABSENT


_HEADER: Final = msgspec.json.Decoder(dict[str, _Entry])


def is_safetensors(head: bytes) -> bool:
    """Say whether a file's first 9 bytes are a length and the begin of a JSON object."""
    return len(head) > _LENGTH_BYTES and head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"


def locate(source: Source) -> list[Tensor]:
    """
    Find a safetensors file's tensors.

    A header that is no valid JSON, or longer than what is read of a file, gives none: nothing says where it is wrong.

    Source: https://github.com/huggingface/safetensors, "Format".
    """
    return arrange(_find(Window(source)), source.size)


def _find(window: Window) -> Iterator[Tensor]:
    length = int.from_bytes(window.read(0, _LENGTH_BYTES), "little")
    if length > HEADER_BYTES_MAX - (1 << 20):
        raise UnreadableError(f"a header of {length} bytes")
    header = window.read(_LENGTH_BYTES, length)
    # Each member has a brace; more of them are not a header's, and would be a multiple of its size in memory.
    if not header.startswith(b"{") or header.count(b"{") > 2 * TENSORS_MAX:
        raise UnreadableError("no header of tensors")
    try:
        entries = _HEADER.decode(header)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as exc:
        raise UnreadableError("no valid JSON") from exc
    begin = _LENGTH_BYTES + length
    for name, entry in entries.items():
        shape, offsets = _read_numbers(entry.shape), _read_numbers(entry.data_offsets)
        if name != "__metadata__" and shape is not None and offsets is not None and len(offsets) == 2 and offsets[0] >= 0:
            yield Tensor(name, entry.dtype, tuple(shape), begin + offsets[0], offsets[1] - offsets[0])


def _read_numbers(piece: msgspec.Raw) -> list[int] | None:
    if not 0 < len(piece) <= _LIST_CHARS_MAX:
        return None
    try:
        return _NUMBERS.decode(piece)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
