"""Removing stored objects that no version needs: what registrations left that did not come to their end, and what was replaced."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from lastgood.registry import condemned, schema
from lastgood.registry.catalogue import content_of, weights_of
from lastgood.registry.database import Database
from lastgood.registry.log import Clock, Log
from lastgood.registry.store.needed import Needed
from lastgood.registry.store.store import SegmentedStore

# What was written within this time is left alone. For speed only: a registration that goes on meanwhile would store it again.
RECENT_SECONDS: Final = 3600.0
_REMOVED_EACH: Final = 100  # in one transaction: others wait to write for so long


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed or, when it only looked, would remove."""

    objects: int
    bytes: int
    recent: int  # objects that no version needs and that are left, for they may be of a registration that goes on
    kept: int  # objects that versions need
    removed: bool


@dataclass(frozen=True, slots=True)
class _Unknown:
    files: list[str]  # SHA-256
    digests: set[str]
    position: int  # of the newest event


class Collection:
    """One collection; several at a time do each other no harm."""

    def __init__(
        self, database: Database, store: SegmentedStore, *, writer: str, clock: Clock, recent_seconds: float = RECENT_SECONDS
    ) -> None:
        """Prepare; nothing is read yet."""
        self._database = database
        self._store = store
        self._writer = writer
        self._clock = clock
        self._recent_seconds = recent_seconds
        self._needed: Needed = store.begin_needed()
        self._known: set[str] = set()  # digests whose objects are among the needed
        self._position = 0  # of the log, up to which weights are

    def run(self, *, actor: str, dry_run: bool = False, on_progress: Callable[[int, int], None] | None = None) -> Collected:
        """
        Remove what no version needs.

        Args:
            actor: Who asked for it.
            dry_run: Only say what would be removed.
            on_progress: Is told how many objects are removed, of how many.

        Raises:
            IntegrityError: A version's file, or its content, cannot be read, so that it is not known what it needs; nothing is removed.
        """
        with self._database.reading() as connection:
            unknown = self._list_unknown(connection)
            left = condemned.list_waiting(connection, 1)  # by a collection that was killed
        self._learn(unknown)
        doomed, recent = self._find_doomed()
        found = Collected(len(doomed), sum(doomed.values()), recent, sum(1 for _ in self._needed), removed=not dry_run)
        if dry_run or not (doomed or left):
            return found
        self._condemn(doomed)
        self._remove(found, actor, on_progress)
        return found

    def _list_unknown(self, connection: Connection) -> _Unknown:
        """Give what is registered and was not looked at yet."""
        digests = {digest for digest in connection.scalars(select(schema.contents.c.digest)) if digest not in self._known}
        files = [entry.sha256 for digest in digests for entry in content_of(connection, digest).files]
        files += [entry.sha256 for entry in weights_of(connection, after=self._position)]
        return _Unknown(files, digests, connection.scalar(select(func.max(schema.events.c.position))) or 0)

    def _learn(self, unknown: _Unknown) -> None:
        self._needed.add(unknown.files)
        self._known |= unknown.digests
        self._position = unknown.position

    def _find_doomed(self) -> tuple[dict[str, int], int]:
        """Give the bytes of what is not needed, by name, and how many more are too recent."""
        doomed, recent, now = dict[str, int](), 0, time.time()
        for name in self._store.list_objects():
            measured = None if name in self._needed else self._store.measure(name)
            if measured is None:
                continue
            if now - measured[1] < self._recent_seconds:
                recent += 1
            else:
                doomed[name] = measured[0]
        return doomed, recent

    def _condemn(self, doomed: dict[str, int]) -> None:
        """Write down what is removed, when every version that is registered was looked at."""
        while True:
            with self._database.writing() as connection:
                unknown = self._list_unknown(connection)
                if not unknown.files:
                    condemned.condemn(connection, doomed)
                    return
            self._learn(unknown)
            for name in [name for name in doomed if name in self._needed]:
                del doomed[name]

    def _remove(self, found: Collected, actor: str, on_progress: Callable[[int, int], None] | None) -> None:
        removed = 0
        for count in self._remove_some():
            removed += count
            if on_progress is not None:
                on_progress(removed, found.objects)
        with self._database.writing() as connection:
            log = Log(connection, writer=self._writer, clock=self._clock)
            payload = {"objects": removed, "bytes": found.bytes, "kept": found.kept}
            log.append("collected", model=None, digest=None, actor=actor, payload=payload)

    def _remove_some(self) -> Iterator[int]:
        while True:
            with self._database.writing() as connection:
                names = condemned.list_waiting(connection, _REMOVED_EACH)
                if not names:
                    return
                self._store.remove(names)
                condemned.mark_removed(connection, names)
            yield len(names)
