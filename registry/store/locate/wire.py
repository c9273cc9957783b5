"""Fields of protobuf messages, found without loading what is in them."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from lastgood.registry.store.locate.window import UnreadableError, Window

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5
_VARINT_BYTES_MAX: Final = 10
_FIXED_BYTES: Final = {FIXED64: 8, FIXED32: 4}


class Field(NamedTuple):
    """One field: its number, how it is written, its value where that is a varint, and where its content lies in the file."""

    number: int
    wire: int
    value: int
    begin: int
    end: int  # where the next field begins


def read_field(window: Window, at: int, end: int) -> Field:
    """
    Read one field of a message that ends there.

    Raises:
        UnreadableError: It is no field, a group (which is not used any more), or it does not end in the message.

    Source: https://protobuf.dev/programming-guides/encoding/
    """
    head = window.peek(at, min(2 * _VARINT_BYTES_MAX, end - at))
    tag, used = read_varint(head, 0)
    number, wire = tag >> 3, tag & 7
    value = 0
    if wire in {VARINT, LENGTH}:
        value, used = read_varint(head, used)
    begin = at + used
    field_end = begin + (value if wire == LENGTH else _FIXED_BYTES.get(wire, 0))
    if number == 0 or wire not in {VARINT, LENGTH, FIXED64, FIXED32} or field_end > end:
        raise UnreadableError(f"no field at {at}")
    return Field(number, wire, value, begin, field_end)


def iterate_fields(window: Window, begin: int, end: int) -> Iterator[Field]:
    """
    Give a message's fields in order.

    Raises:
        UnreadableError: As `read_field` does.
    """
    while begin < end:
        field = read_field(window, begin, end)
        yield field
        begin = field.end


def read_varints(window: Window, field: Field, *, count_max: int) -> list[int]:
    """
    Read the numbers of a repeated integer field, which is written packed or one by one.

    Raises:
        UnreadableError: It is neither, or has more than so many numbers.
    """
    if field.wire == VARINT:
        return [field.value]
    if field.wire != LENGTH or field.end - field.begin > _VARINT_BYTES_MAX * count_max:
        raise UnreadableError(f"no numbers at {field.begin}")
    packed = window.read(field.begin, field.end - field.begin)
    values, at = [], 0
    while at < len(packed):
        value, at = read_varint(packed, at)
        values.append(value)
    return values


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """
    Read an unsigned number of 64 bits; give it and where it ends.

    Raises:
        UnreadableError: It does not end in the data or is too long.
    """
    if at < len(data) and data[at] < 0x80:  # as nearly all are
        return data[at], at + 1
    value = 0
    for shift, byte in zip(range(0, 7 * _VARINT_BYTES_MAX, 7), data[at : at + _VARINT_BYTES_MAX], strict=False):
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise UnreadableError("no varint")


def read_signed(value: int) -> int:
    """Give the int64 that is written as this varint."""
    return value - (1 << 64) if value >> 63 else value
