"""
The access log: a line of JSON for each request that was kept, in a file of its own and of bounded size.

It is not part of the gateway's log on stderr, which whoever started the gateway keeps whole: that one is for a few lines a day.
"""

import json
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from lastgood.serving.gateway.telemetry.outbox import Outbox
from lastgood.serving.gateway.telemetry.record import Record

log = logging.getLogger(__name__)
CLOSE_SECONDS: Final = 2.0


class AccessLog:
    """Writes lines to ``access.jsonl``; when half of the room is full it becomes ``access.jsonl.1``, in place of the one before."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """
        Go on with the file that is there.

        Args:
            folder: Is made if it is not there.
            most_bytes: That both files may take together.
        """
        self.path = folder / "access.jsonl"
        self._most_bytes = most_bytes // 2
        self._file: BinaryIO | None = None
        self._torn = False  # the file ends within a line
        self._failing = False
        self.outbox = Outbox("access-log", self._write)

    def close(self) -> None:
        """Write what waits."""
        self.outbox.close(CLOSE_SECONDS)
        if self._file is not None:
            self._file.close()

    def _write(self, records: Sequence[Record]) -> int:
        failure = self._append("".join([f"{write_line(record)}\n" for record in records]).encode("ascii"))
        if failure is not None and not self._failing:  # once, however many lines follow
            log.warning("%s cannot be written, its lines are lost: %s", self.path, failure)
        self._failing = failure is not None
        return len(records) if self._failing else 0

    def _append(self, lines: bytes) -> str | None:
        """Write lines; say what is wrong if they could not all be."""
        data = b"\n" + lines if self._torn else lines
        try:
            written = self._open(len(data)).write(data)
        except OSError as exc:
            return str(exc)
        self._torn = 0 < written < len(data)
        return None if written == len(data) else f"{written} of {len(data)} bytes were taken"

    def _open(self, size: int) -> BinaryIO:
        if self._file is not None and 0 < self._most_bytes - size < self._file.tell():
            self._file.close()
            self._file = None
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab", buffering=0, opener=_open_private)  # noqa: SIM115  # stays open
        return self._file


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write_line(record: Record) -> str:
    """
    Give a record as one line of JSON, without its end.

    ASCII alone, whatever a client sent: control characters and line separators of every kind are escaped.
    """
    work, trace = record.work, record.trace
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.ended, UTC).isoformat(timespec="microseconds"),
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "bytes": record.nbytes,
        "seconds": round(record.seconds, 6),
    }
    if work is not None:
        line |= {
            "queue_seconds": None if work.dispatched is None else round(work.dispatched - work.queued, 6),
            "compute_seconds": None if work.compute_seconds is None else round(work.compute_seconds, 6),
            "model": work.model,
            "version": work.version,
            "role": work.role,
            "request_id": work.request_id,
        }
    if trace is not None:
        line["trace_id"] = trace.trace_id.decode("ascii")
    return json.dumps(line, ensure_ascii=True, separators=(",", ":")).replace("\x7f", "\\u007f")
