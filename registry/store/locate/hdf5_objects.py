"""The headers of HDF5's objects: the messages that say what a group holds, or what a dataset is and where it lies."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from lastgood.registry.store.locate.bounds import RANK_MAX
from lastgood.registry.store.locate.window import UnreadableError, Window

ADDRESS_BYTES: Final = 8
UNDEFINED: Final = (1 << 64) - 1  # the address of what is nowhere yet
_MESSAGES_MAX: Final = 200_000  # of one header, whose links they may be
# Types of messages.
_DATASPACE, _DATATYPE, _LINK, _EXTERNAL_FILES, _LAYOUT, _FILTERS, _CONTINUATION, _SYMBOLS = 1, 3, 6, 7, 8, 11, 16, 17
_SHARED: Final = 2  # flag of a message that stands somewhere else
_HEAD_1_BYTES: Final = 16
_SIGNATURE_BYTES: Final = 4
_CHECKSUM_BYTES: Final = 4
# A datatype's first byte is its version and its class.
_INTEGER, _FLOAT, _ENUMERATION = 0, 1, 8
_INTEGERS: Final = {(1, 0): "U8", (2, 0): "U16", (4, 0): "U32", (8, 0): "U64", (1, 8): "I8", (2, 8): "I16", (4, 8): "I32", (8, 8): "I64"}
# By the bits of: sign's place; offset, precision, exponent's place and size, mantissa's place and size, exponent's bias.
_FLOATS: Final = {
    (15, 0, 16, 10, 5, 0, 10, 15): "F16",
    (15, 0, 16, 7, 8, 0, 7, 127): "BF16",
    (31, 0, 32, 23, 8, 0, 23, 127): "F32",
    (63, 0, 64, 52, 11, 0, 52, 1023): "F64",
}
_LEADING_ONE: Final = 0x20  # implied in the mantissa; all other bits of the byte are those of big-endian and of padding
_TYPE_BYTES_MAX: Final = 64
# The names and the values of an enumeration's members; older versions fill names up to 8 bytes.
_BOOL_MEMBERS: Final = (b"FALSE\0\0\0TRUE\0\0\0\0\0\1", b"FALSE\0TRUE\0\0\1")


class Message(NamedTuple):
    """Where a message's content lies."""

    begin: int
    size: int


@dataclass(slots=True)
class Messages:
    """Those messages of an object's header that lead to elements."""

    dataspace: Message | None = None
    datatype: Message | None = None
    layout: Message | None = None
    symbols: Message | None = None
    links: list[Message] = field(default_factory=list)
    is_elsewhere: bool = False  # in other files, behind filters, or described by another object


def read_messages(window: Window, address: int) -> Messages:
    """
    Read an object's header, of either version.

    Raises:
        UnreadableError: There is none, it has no end, or more messages than are taken.
    """
    head = window.read(address, _HEAD_1_BYTES)
    messages = Messages()
    if head.startswith(b"OHDR\2"):
        begin, size = _find_first_block(window, address)
        blocks, flags = [Message(begin, size)], head[5]
    elif head[0] == 1:
        blocks, flags = [Message(address + _HEAD_1_BYTES, int.from_bytes(head[8:12], "little"))], None
    else:
        raise UnreadableError(f"no object at {address}")
    count = 0
    for block in blocks:  # which grows meanwhile
        for kind, is_shared, message in _iterate_block(window, block, flags):
            count += 1
            if count > _MESSAGES_MAX:
                raise UnreadableError(f"a header without end at {address}")
            if kind == _CONTINUATION:
                blocks.append(_find_next_block(window, message, flags))
            else:
                _take(messages, kind, message, is_shared=is_shared)
    return messages


def read_shape(window: Window, message: Message) -> tuple[int, ...] | None:
    """Read a dataspace message; None where it has no elements, or more dimensions than are taken."""
    version, rank, _, kind = window.read(message.begin, 4)
    begin = message.begin + {1: 8, 2: 4}.get(version, 0)
    if version not in {1, 2} or (version == 2 and kind == 2) or rank > RANK_MAX or begin + 8 * rank > message.begin + message.size:
        return None
    data = window.read(begin, 8 * rank)
    return tuple(int.from_bytes(data[8 * each : 8 * each + 8], "little") for each in range(rank))


def read_dtype(window: Window, message: Message) -> str | None:
    """Read a datatype message; None where the elements are none of the types that have a name here."""
    data = window.read(message.begin, min(message.size, _TYPE_BYTES_MAX))
    if len(data) < 12:
        return None
    kind, size = data[0] & 0x0F, int.from_bytes(data[4:8], "little")
    if kind == _INTEGER and data[8:12] == bytes([0, 0, 8 * size & 0xFF, 0]):
        return _INTEGERS.get((size, data[1]))
    if kind == _FLOAT and len(data) >= 20 and data[1] == _LEADING_ONE:
        number = _FLOATS.get(
            (
                data[2],
                int.from_bytes(data[8:10], "little"),
                int.from_bytes(data[10:12], "little"),
                *data[12:16],
                int.from_bytes(data[16:20], "little"),
            )
        )
        return number if number is not None and size * 8 == int.from_bytes(data[10:12], "little") else None
    if kind == _ENUMERATION and size == 1 and _is_bool(data):
        return "BOOL"
    return None


def _is_bool(data: bytes) -> bool:
    """Say whether an enumeration is the one that h5py writes for truth values: a byte, FALSE is 0 and TRUE is 1."""
    return data[1:3] == b"\2\0" and data[8] & 0x0F == _INTEGER and data[20:].startswith(_BOOL_MEMBERS)


def _find_first_block(window: Window, address: int) -> Message:
    """Find the first messages of a header of version 2, after times and limits that may be there."""
    flags = window.read(address + 5, 1)[0]
    at = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    size_bytes = 1 << (flags & 0x03)
    return Message(at + size_bytes, int.from_bytes(window.read(at, size_bytes), "little"))


def _find_next_block(window: Window, message: Message, flags: int | None) -> Message:
    """Find the messages that a continuation leads to; a block of version 2 begins with a signature and ends with a checksum."""
    data = window.read(message.begin, 2 * ADDRESS_BYTES)
    begin, size = int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")
    if flags is None:
        return Message(begin, size)
    if window.read(begin, _SIGNATURE_BYTES) != b"OCHK":
        raise UnreadableError(f"no block at {begin}")
    return Message(begin + _SIGNATURE_BYTES, size - _SIGNATURE_BYTES - _CHECKSUM_BYTES)


def _iterate_block(window: Window, block: Message, flags: int | None) -> Iterator[tuple[int, bool, Message]]:
    """Give type, whether it is shared, and place of each message of a block; flags are those of a header of version 2."""
    head_bytes = 8 if flags is None else 6 if flags & 0x04 else 4
    at, end = block.begin, block.begin + block.size
    while at + head_bytes <= end:
        head = window.read(at, head_bytes)
        if flags is None:
            kind, size, shared = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little"), head[4]
        else:
            kind, size, shared = head[0], int.from_bytes(head[1:3], "little"), head[3]
        at += head_bytes
        if at + size > end:
            raise UnreadableError(f"a message beyond its block at {at}")
        yield kind, bool(shared & _SHARED), Message(at, size)
        at += size


def _take(messages: Messages, kind: int, message: Message, *, is_shared: bool) -> None:
    if kind in {_DATASPACE, _DATATYPE, _LAYOUT} and is_shared:
        messages.is_elsewhere = True
    elif kind == _DATASPACE:
        messages.dataspace = message
    elif kind == _DATATYPE:
        messages.datatype = message
    elif kind == _LAYOUT:
        messages.layout = message
    elif kind in {_FILTERS, _EXTERNAL_FILES}:
        messages.is_elsewhere = True
    elif kind == _SYMBOLS:
        messages.symbols = message
    elif kind == _LINK:
        messages.links.append(message)
