"""
What goes wrong again and again, in few lines of the log: one when it begins, one a minute while it lasts, one when it is over.

A full disk fails every write of a gateway, many times a second; a log that says so each time hides everything else, and fills what is
left. Troubles of the machine are a sentence; anything that nobody expected is a bug and keeps its traceback.
"""

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from lastgood.errors import LastgoodError

log = structlog.get_logger()
_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
_REMIND_SECONDS: Final = 60.0
Key = tuple[object, ...]


def is_machines_fault(exc: BaseException) -> bool:
    """
    Say whether something failed for want of disk, memory, descriptors or processes, or because the catalogue did not answer.

    None of these says anything about the version that was being worked on.
    """
    cause: BaseException | None = exc
    while cause is not None:
        # Every driver of a database names its errors alike (PEP 249).
        if (isinstance(cause, OSError) and cause.errno in _ERRNOS) or type(cause).__name__ == "OperationalError":
            return True
        cause = cause.__cause__
    return False


@dataclass(slots=True)
class _Spell:
    began: float = 0.0
    times: int = 0
    lasts: bool = False
    told: bool = False  # of this spell, and not only of one before it
    told_at: float = float("-inf")


class Troubles:
    """What is going wrong now; belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing wrong; ``clock`` gives seconds."""
        self._clock = clock
        self._spells: dict[Key, _Spell] = {}

    def report(self, what: str, exc: BaseException, **about: object) -> None:
        """
        Take note that something failed, and say so if that was not said within the last minute.

        Args:
            what: A sentence without the reason.
            exc: The reason.
            about: Where; with ``what``, by which `end` knows it again.
        """
        expected = isinstance(exc, LastgoodError | OSError) or is_machines_fault(exc)
        key = _key(what, about)
        spell = self._spells.setdefault(key if expected else (*key, *_place(exc)), _Spell())
        now = self._clock()
        if not spell.lasts:
            spell.began, spell.times, spell.lasts, spell.told = now, 0, True, False
        spell.times += 1
        if now - spell.told_at < _REMIND_SECONDS:
            return
        spell.told, spell.told_at = True, now
        if expected:
            log.warning(what, why=str(exc) or type(exc).__name__, times=spell.times, **about)
        else:
            log.error(what, exc_info=exc, times=spell.times, **about)

    def end(self, what: str, **about: object) -> None:
        """Take note that it works; say so if it did not, and that was said."""
        spell = self._spells.get(_key(what, about))
        if spell is None or not spell.lasts:
            return
        spell.lasts = False
        if spell.told:
            log.info("over", what=what, times=spell.times, seconds=round(self._clock() - spell.began, 1), **about)


def _key(what: str, about: dict[str, object]) -> Key:
    return (what, *sorted(about.items()))


def _place(exc: BaseException) -> Key:
    """Say where a bug is: the same one has the same place."""
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (type(exc).__name__,) if trace is None else (type(exc).__name__, trace.tb_frame.f_code.co_filename, trace.tb_lineno)
