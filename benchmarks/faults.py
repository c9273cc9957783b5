"""
Crashes and lost databases at the writes of this process.

A crash is an exception that nothing of the product catches, before or after the n-th fsync, rename or commit; from then on
every further write meets it, as nothing of a dead process is written.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import structlog
from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

from lastgood.errors import UnavailableError
from lastgood.registry.database import Database


class Crash(BaseException):
    """The process ends here."""


class Fault:
    """What the writes of this process meet."""

    crash_after: ClassVar[int | None] = None  # moments, before and after each write
    dead: ClassVar[bool] = False
    away: ClassVar[bool] = False  # the database
    writes: ClassVar[bool] = False  # whether the transaction that is about to be committed writes

    @classmethod
    def pass_moment(cls) -> None:
        """Count a moment, and crash if it is the one, or if the process is dead."""
        if cls.crash_after is not None:
            cls.crash_after -= 1
            if cls.crash_after <= 0:
                cls.dead, cls.crash_after = True, None
        if cls.dead:
            raise Crash

    @classmethod
    def heal(cls) -> None:
        """Let a new process begin."""
        cls.crash_after, cls.dead, cls.away = None, False, False


def _wrap(module: Any, name: str, matters: Callable[[], bool] = lambda: True) -> None:
    original = getattr(module, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if not matters():
            return original(*arguments, **named)
        Fault.pass_moment()
        result = original(*arguments, **named)
        Fault.pass_moment()
        return result

    setattr(module, name, wrapped)


@event.listens_for(Engine, "commit")
def _note_commit(connection: Connection) -> None:
    Fault.writes = bool(connection.get_execution_options().get("lastgood_writes"))


def _lose_database(name: str) -> None:
    original = getattr(Database, name)

    @contextlib.contextmanager
    def reached(self: Database) -> Iterator[Connection]:
        if Fault.away:
            raise UnavailableError("The database is away.")
        with original(self) as connection:
            yield connection

    setattr(Database, name, reached)


def install_faults() -> None:
    """Put moments around every write of this process, once."""
    _wrap(os, "fsync")
    _wrap(os, "replace")
    _wrap(DefaultDialect, "do_commit", lambda: Fault.writes)
    _lose_database("reading")
    _lose_database("writing")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
