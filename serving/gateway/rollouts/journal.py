"""
The gateway's local journal of withdrawals: one line, fsynced before anything shared is written.

Taking a version out must not wait for a database. The line is the promise: after it, the version stays out, whatever
dies next. Once the shared record holds the withdrawal too, a second line closes it.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lastgood.errors import IntegrityError


@dataclass(frozen=True, slots=True)
class Entry:
    """One withdrawal as it was decided: what went out, why, by whom, and the receipt."""

    id: str  # unique; the shared record uses it so that writing twice changes nothing
    time: str
    model: str
    number: int
    digest: str
    cause: str
    tombstone: bool
    actor: str
    why: str
    payload: Mapping[str, Any]
    # Where a person named the version to go back to; otherwise it is the rollout's fallback.
    target: Mapping[str, Any] | None = None
    # What it was decided because of: the shared record holds one withdrawal for each, whoever decided. Empty: itself.
    incident: str = ""
    since: str | None = None  # ISO time at which the version had come in; what came in later is not meant

    @property
    def key(self) -> str:
        """What the shared record knows this decision by."""
        return self.incident or self.id


class Journal:
    """An append-only file of JSON lines; on opening, closed entries are dropped from it."""

    def __init__(self, path: Path) -> None:
        """
        Open or create the journal.

        Raises:
            IntegrityError: A line other than a torn last one is not an entry.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._open = _read(path)
        self._rewrite()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @property
    def open_entries(self) -> tuple[Entry, ...]:
        """Withdrawals that the shared record may not hold yet, oldest first."""
        return tuple(self._open.values())

    def append(self, entry: Entry) -> None:
        """Write the entry and wait until the disk has it."""
        self._open[entry.id] = entry
        self._write({"withdraw": asdict(entry)})

    def close_entry(self, identity: str) -> None:
        """Note that the shared record holds the entry."""
        if self._open.pop(identity, None) is not None:
            self._write({"recorded": identity})

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _write(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fsync(self._descriptor)

    def _rewrite(self) -> None:
        lines = b"".join(json.dumps({"withdraw": asdict(entry)}, separators=(",", ":")).encode() + b"\n" for entry in self._open.values())
        fresh = self._path.with_name(f"{self._path.name}.new")
        with fresh.open("wb") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    with contextlib.suppress(FileNotFoundError):
        lines = path.read_bytes().split(b"\n")
        lines.pop()  # empty, or a line whose writing was cut off and so promised nothing
        for number, line in enumerate(lines, start=1):
            try:
                value = json.loads(line)
                if "withdraw" in value:
                    entry = Entry(**value["withdraw"])
                    entries[entry.id] = entry
                else:
                    entries.pop(value["recorded"], None)
            except (json.JSONDecodeError, KeyError, TypeError) as exc:
                raise IntegrityError(
                    f"Line {number} of the gateway's journal {path} is not an entry: {exc!r}. It was changed by something else; "
                    "move the file away to start without it (the shared record keeps every withdrawal it already holds)."
                ) from exc
    return entries
