"""
A gateway that is killed by SIGKILL at its N-th write, before or after it: ``python crashing_gateway.py N``.

A write is an fsync, a rename, or the commit of a transaction that writes. Odd N: just before write (N + 1) / 2; even N:
just after write N / 2. The product has no hooks for this; the functions it calls are wrapped here.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

from lastgood.serving.gateway.program import main

_passed = 0
_commits_write = False


def pass_point(point: int) -> None:
    """Count a moment, and die if it is the one."""
    global _passed
    _passed += 1
    if _passed == point:
        os.kill(os.getpid(), signal.SIGKILL)


def wrap(module: Any, name: str, point: int, matters: Callable[[], bool] = lambda: True) -> None:
    """Put a moment before and after each call of a function."""
    original = getattr(module, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if not matters():
            return original(*arguments, **named)
        pass_point(point)
        result = original(*arguments, **named)
        pass_point(point)
        return result

    setattr(module, name, wrapped)


@event.listens_for(Engine, "commit")
def note_commit(connection: Connection) -> None:
    """Remember whether the transaction that is about to be committed writes."""
    global _commits_write
    _commits_write = bool(connection.get_execution_options().get("lastgood_writes"))


if __name__ == "__main__":
    number = int(sys.argv[1])
    wrap(os, "fsync", number)
    wrap(os, "replace", number)
    wrap(DefaultDialect, "do_commit", number, lambda: _commits_write)
    sys.exit(main())
