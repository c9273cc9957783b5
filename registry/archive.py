"""
The file that a registry is backed up in.

A tar archive, so that others can look into it::

    backup.json             `About`
    events.jsonl.zst        the rows of the log, a JSON object each, in order
    writers.jsonl.zst       the rows of the table `writers`
    contents.jsonl.zst      the contents, a JSON text each
    objects/…               as they are kept: encrypted where the registry is, with the keys that its own key unlocks
"""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Final, TypeVar

import msgspec
import zstandard

from lastgood.registry.errors import BackupDamagedError

FORMAT: Final = "lastgood/backup/1"
ABOUT: Final = "backup.json"
EVENTS, WRITERS, CONTENTS = "events.jsonl.zst", "writers.jsonl.zst", "contents.jsonl.zst"
OBJECTS: Final = "objects/"
OBJECT_BYTES_MAX: Final = 300 << 20  # a list of the segments of a file with 200,000 tensors has fewer
TOLD_EACH: Final = 1000  # objects between two reports of how far a backup is
_ABOUT_BYTES_MAX: Final = 1 << 20
_LINE_BYTES_MAX: Final = 32 << 20
_ZSTD_LEVEL: Final = 6
_READ_BYTES: Final = 1 << 20

T = TypeVar("T")


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup holds."""

    time: str  # when the catalogue was read
    position: int  # of the newest event; 0 where there is none
    hash: str | None  # its hash
    events: int
    contents: int
    objects: int
    encrypted: bool
    format: str = FORMAT


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Write lines into a file, compressed; give how many."""
    count = 0
    with path.open("wb") as sink, zstandard.ZstdCompressor(level=_ZSTD_LEVEL).stream_writer(sink) as packed:
        for line in lines:
            packed.write(line + b"\n")
            count += 1
    return count


def read_lines(path: Path) -> Iterator[bytes]:
    """
    Give the lines that `write_lines` wrote.

    Raises:
        BackupDamagedError: They cannot be read.
    """
    left = b""
    try:
        with path.open("rb") as source, zstandard.ZstdDecompressor().stream_reader(source) as packed:
            while piece := packed.read(_READ_BYTES):
                *whole, left = (left + piece).split(b"\n")
                yield from whole
                if len(left) > _LINE_BYTES_MAX:
                    raise BackupDamagedError(f"A line of the backup's {path.name} has more than {_LINE_BYTES_MAX:,} bytes.")
    except zstandard.ZstdError as exc:
        raise BackupDamagedError(f"The backup's {path.name} cannot be read: {exc}.") from exc
    if left:
        raise BackupDamagedError(f"The backup's {path.name} ends in the middle of a line.")


def add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a member to an archive that is written; its time says nothing, so that equal backups are equal files."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o444
    archive.addfile(info, io.BytesIO(data))


class Reader:
    """An archive that is read from its begin."""

    def __init__(self, source: IO[bytes], name: str) -> None:
        """
        Read what it is about.

        Raises:
            BackupDamagedError: It is no backup, or one that this lastgood cannot read.
        """
        self._name = name
        self._archive = self._guard(lambda: tarfile.open(fileobj=source, mode="r|"))  # noqa: SIM115 - the source is the caller's to close
        self._members = iter(self._archive)
        first = self._next()
        if first is None or first.name != ABOUT or first.size > _ABOUT_BYTES_MAX:
            raise BackupDamagedError(f"{name} is no backup of a registry: it does not begin with {ABOUT}.")
        try:
            self.about = msgspec.json.decode(self._read(first), type=About)
        except msgspec.MsgspecError as exc:
            raise BackupDamagedError(f"{name} is no backup that can be read: {ABOUT}: {exc}.") from exc
        if self.about.format != FORMAT:
            raise BackupDamagedError(f"{name} is a backup of format {self.about.format[:40]!r}; this lastgood reads {FORMAT!r}.")

    def copy(self, name: str, folder: Path) -> Path:
        """Copy the next member, which has this name, into a folder; BackupDamagedError where it is another."""
        member = self._next()
        if member is None or member.name != name or not member.isreg():
            found = repr(member.name[:80]) if member else "nothing more"
            raise BackupDamagedError(f"{self._name} is no whole backup: it has {found} where {name} is expected.")
        path = folder / name
        with path.open("xb") as sink:
            source = self._open(member)
            while piece := self._guard(lambda: source.read(_READ_BYTES)):
                sink.write(piece)
        return path

    def read_objects(self) -> Iterator[tuple[str, bytes]]:
        """Give the objects by name; BackupDamagedError where there is anything else, or the archive ends before its time."""
        count = 0
        while (member := self._next()) is not None:
            if not member.isreg() or not member.name.startswith(OBJECTS) or member.size > OBJECT_BYTES_MAX:
                raise BackupDamagedError(f"{self._name} is no backup of a registry: it holds {member.name[:80]!r}.")
            yield member.name.removeprefix(OBJECTS), self._read(member)
            count += 1
        if count != self.about.objects:
            raise BackupDamagedError(f"{self._name} is no whole backup: it holds {count} objects, and says it has {self.about.objects}.")

    def _next(self) -> tarfile.TarInfo | None:
        return self._guard(lambda: next(self._members, None))

    def _read(self, member: tarfile.TarInfo) -> bytes:
        data = self._guard(self._open(member).read)
        if len(data) != member.size:
            raise BackupDamagedError(f"{self._name} is no whole backup: it ends in the middle of {member.name[:80]!r}.")
        return data

    def _open(self, member: tarfile.TarInfo) -> IO[bytes]:
        opened = self._guard(lambda: self._archive.extractfile(member))
        if opened is None:
            raise BackupDamagedError(f"{self._name} is no backup of a registry: {member.name[:80]!r} in it is no file.")
        return opened

    def _guard(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except (tarfile.TarError, EOFError, ValueError) as exc:
            raise BackupDamagedError(f"{self._name} is no whole backup of a registry: {exc}.") from exc
