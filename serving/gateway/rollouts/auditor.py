"""
The gateway looks after its history: is the event log still what was written? At start, and every hour.

It goes on from where the log was last found whole, a piece at a time with pauses between, so that neither requests nor the
copying of a version wait; once a day, and as long as something is wrong, it begins at the beginning.
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Final

import structlog

from lastgood.errors import LastgoodError
from lastgood.registry.audit import read_checked, write_checked
from lastgood.registry.chain import Checked
from lastgood.serving.gateway.rollouts.record import SharedRecord

log = structlog.get_logger()
INTERVAL_SECONDS: Final = 3600.0
WHOLE_SECONDS: Final = 24 * 3600.0  # after this long the log is read from its beginning again
RETRY_SECONDS: Final = 60.0  # where the registry does not answer
PIECE_EVENTS: Final = 200  # some 10 ms of hashing
PAUSE_SECONDS: Final = 0.05
_SHOWN: Final = 5  # problems in the log line; `lastgood verify` shows all


class Auditor:
    """Checks the event chain of the shared record."""

    def __init__(self, record: SharedRecord, path: Path) -> None:
        """
        Prepare; `run` begins.

        Args:
            record: Whose log is checked.
            path: Where is kept how far it was found whole.
        """
        self.broken: bool | None = None  # None while it is not known
        self._record = record
        self._path = path

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            try:
                await self.check()
            except (LastgoodError, OSError) as exc:
                log.warning("the event log cannot be checked now", why=str(exc))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                await asyncio.sleep(INTERVAL_SECONDS)

    async def check(self) -> None:
        """
        Check to the log's end.

        Raises:
            LastgoodError: The registry does not answer.
            OSError: How far it was checked cannot be kept.
        """
        checked, since = self._load()
        problems: list[tuple[str, str]] = []
        ended = False
        while not ended:
            piece = await self._record.check_log(checked, PIECE_EVENTS)
            checked, ended = piece.checked, piece.ended
            problems += piece.problems
            if not ended:
                await asyncio.sleep(PAUSE_SECONDS)
        self.broken = bool(problems)
        if problems:
            first = [f"{name}: {sentence}" for name, sentence in problems[:_SHOWN]]
            log.error("the event log is not what was written; run lastgood verify", problems=len(problems), first=first)
            self._path.unlink(missing_ok=True)
        else:
            self._save(checked, since)

    def _load(self) -> tuple[Checked, float]:
        """Give how far the log is known, and when it was begun with at the beginning (Unix time)."""
        now = time.time()
        try:
            value = json.loads(self._path.read_text("utf-8"))
            checked, since = read_checked(value), float(value["since"])
        except (FileNotFoundError, json.JSONDecodeError, LastgoodError, KeyError, TypeError, ValueError):
            return Checked(), now  # what cannot be read costs a minute, no more
        return (checked, since) if 0 <= now - since < WHOLE_SECONDS else (Checked(), now)

    def _save(self, checked: Checked, since: float) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        fresh.write_text(json.dumps({**write_checked(checked), "since": since}), "utf-8")
        fresh.replace(self._path)
