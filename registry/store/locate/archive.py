"""Members of a zip archive that lie in it as they are, from its central directory."""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final

from lastgood.registry.store.layout import TENSORS_MAX
from lastgood.registry.store.locate.window import UnreadableError, Window

MAGIC: Final = b"PK\x03\x04"
_END: Final = Struct("<4s4H2LH")  # signature, disks, entries here, entries, directory's size, its offset, comment's length
_END_MAGIC: Final = b"PK\x05\x06"
_LOCATOR: Final = Struct("<4sLQL")  # signature, disk, where the end record of zip64 is, disks
_LOCATOR_MAGIC: Final = b"PK\x06\x07"
_END64: Final = Struct("<4sQ2H2L4Q")  # signature, size, versions, disks, entries here, entries, directory's size, its offset
_END64_MAGIC: Final = b"PK\x06\x06"
_ENTRY: Final = Struct("<4s4H4x3L5H2L")  # see `_read_entry`
_ENTRY_MAGIC: Final = b"PK\x01\x02"
_LOCAL: Final = Struct("<4s22x2H")  # signature, …, length of the name, of the extra field
_COMMENT_BYTES_MAX: Final = 0xFFFF
_ENCRYPTED: Final = 1
_IN_ZIP64: Final = 0xFFFFFFFF
_ZIP64_TAG: Final = 1


@dataclass(frozen=True, slots=True)
class Member:
    """A member that was stored without compression."""

    name: str
    header: int  # offset of the local header in the file
    size: int


@dataclass(frozen=True, slots=True)
class _Directory:
    begin: int
    end: int
    shift: int  # bytes before the archive's own begin


def list_stored(window: Window, suffix: str) -> list[Member]:
    """
    List members whose names end so, uncompressed and not encrypted, by where their local headers are.

    Raises:
        UnreadableError: There is no central directory, or it lists more than `TENSORS_MAX` members.

    Source: PKWARE, "APPNOTE.TXT - .ZIP File Format Specification" 6.3.10, 4.3.
    """
    directory = _find_directory(window)
    members = [member for member in _read_entries(window, directory) if member is not None and member.name.endswith(suffix)]
    return sorted(members, key=lambda member: member.header)


def find_begin(window: Window, member: Member) -> int:
    """
    Give the offset of a member's first byte.

    Raises:
        UnreadableError: Its local header is none, or the member does not end in the file.
    """
    magic, name_bytes, extra_bytes = _LOCAL.unpack(window.read(member.header, _LOCAL.size))
    begin: int = member.header + _LOCAL.size + name_bytes + extra_bytes
    if magic != MAGIC or begin + member.size > window.size:
        raise UnreadableError(f"no member {member.name!r} at {member.header}")
    return begin


def _find_directory(window: Window) -> _Directory:
    tail_begin = max(0, window.size - _END.size)
    if not window.peek(tail_begin, _END.size).startswith(_END_MAGIC):  # nearly always there: no comment
        tail_begin = max(0, window.size - _END.size - _COMMENT_BYTES_MAX)
    tail = window.peek(tail_begin, window.size - tail_begin)
    at = _find_end(tail)
    end = tail_begin + at
    *_, entries, size, offset, _ = _END.unpack_from(tail, at)
    locator = window.peek(end - _LOCATOR.size, _LOCATOR.size) if end >= _LOCATOR.size else b""
    if locator.startswith(_LOCATOR_MAGIC):
        # The record's own offset is wrong where something was put before the archive; it has no data of its own in practice.
        end -= _LOCATOR.size + _END64.size
        magic, *_, entries, size, offset = _END64.unpack(window.read(end, _END64.size))
        if magic != _END64_MAGIC:
            raise UnreadableError("no end record of zip64")
    shift = end - size - offset
    if entries > TENSORS_MAX or shift < 0:
        raise UnreadableError(f"a directory of {entries} members and {size} bytes before {end}")
    return _Directory(end - size, end, shift)


def _find_end(tail: bytes) -> int:
    """Give the place of the last end record whose comment ends with the file; a comment may hold the signature too."""
    at = tail.rfind(_END_MAGIC)
    while at >= 0:
        if len(tail) - at >= _END.size and at + _END.size + _END.unpack_from(tail, at)[-1] == len(tail):
            return at
        at = tail.rfind(_END_MAGIC, 0, at)
    raise UnreadableError("no end of a central directory")


def _read_entries(window: Window, directory: _Directory) -> Iterator[Member | None]:
    at = directory.begin
    for _ in range(TENSORS_MAX + 1):
        if at + _ENTRY.size > directory.end:
            return
        fields = _ENTRY.unpack(window.read(at, _ENTRY.size))
        if fields[0] != _ENTRY_MAGIC:
            raise UnreadableError(f"no entry at {at}")
        name_bytes, extra_bytes, comment_bytes = fields[8:11]
        at += _ENTRY.size
        names = window.read(at, name_bytes + extra_bytes)
        yield _read_entry(fields, names[:name_bytes], names[name_bytes:], directory.shift)
        at += name_bytes + extra_bytes + comment_bytes
    raise UnreadableError(f"more than {TENSORS_MAX} members")


def _read_entry(fields: tuple[int, ...], name: bytes, extra: bytes, shift: int) -> Member | None:
    _, _, _, flags, method, _, packed, size, *_, header = fields
    wide = [value for value in (size, packed, header) if value == _IN_ZIP64]
    found = iter(_read_zip64(extra, len(wide)))
    size, packed, header = (next(found, -1) if value == _IN_ZIP64 else value for value in (size, packed, header))
    if method != 0 or flags & _ENCRYPTED or packed != size or min(size, header) < 0:
        return None
    return Member(name.decode(errors="replace"), header + shift, size)


def _read_zip64(extra: bytes, count: int) -> list[int]:
    """Read the numbers that have no room in an entry: those of size, packed size and header that are not there, in this order."""
    at = 0
    while at + 4 <= len(extra):
        tag, length = int.from_bytes(extra[at : at + 2], "little"), int.from_bytes(extra[at + 2 : at + 4], "little")
        at += 4
        if tag == _ZIP64_TAG and at + 8 * count <= at + length <= len(extra):
            return [int.from_bytes(extra[at + 8 * each : at + 8 * each + 8], "little") for each in range(count)]
        at += length
    return []
