"""How a step tells how far it is, to whoever watches: a terminal, a flow, or nobody."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One report: which step, what it does now, and which part of it is done, 0 to 1."""

    step: str
    message: str
    fraction: float


OnProgress = Callable[[Progress], None]

_current: ContextVar[tuple[OnProgress, str, str, float, float] | None] = ContextVar("_current", default=None)


def ignore_progress(report: Progress) -> None:
    """Watch nothing."""
    del report


@contextmanager
def reporting(on_progress: OnProgress, step: str, message: str, start: float, end: float) -> Iterator[None]:
    """
    Let `report_part` below this call report between two fractions of a step.

    It is a context, not an argument, so that a user's ``fit`` keeps its three arguments.
    """
    on_progress(Progress(step, message, start))
    token = _current.set((on_progress, step, message, start, end))
    try:
        yield
    finally:
        _current.reset(token)


def report_part(part: float) -> None:
    """Report that this part, 0 to 1, of the present stretch of a step is done."""
    current = _current.get()
    if current is not None:
        on_progress, step, message, start, end = current
        on_progress(Progress(step, message, start + (end - start) * part))
