"""What a flow came to, kept beside Prefect's record of it: a server that goes away meanwhile takes nothing with it."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import httpx
from prefect import get_run_logger
from prefect.exceptions import PrefectException

from lastgood.errors import LastgoodError, UnavailableError

P = ParamSpec("P")
R = TypeVar("R")
# What Prefect's client raises where its server does not answer.
AWAY = (httpx.TransportError, PrefectException)
_last: tuple[Any, LastgoodError | None] | None = None
server_left = False  # set once Prefect's threads have nobody to talk to any more


class PrefectAwayError(UnavailableError):
    """Prefect's server went away before the flow had come to anything."""

    code = "flows.prefect-away"


def remember(work: Callable[P, R]) -> Callable[P, R]:
    """Keep what the decorated flow function gave or raised, until the next call; put it under ``@flow``."""

    @functools.wraps(work)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        global _last  # noqa: PLW0603 - a process runs one flow for its terminal
        _last = None
        try:
            value = work(*args, **kwargs)
        except LastgoodError as exc:
            _last = (None, exc)
            raise
        _last = (value, None)
        return value

    return call


def recall(cause: Exception) -> Any:
    """
    Give what the last flow came to although Prefect could not be told.

    Raises:
        LastgoodError: What the flow itself raised.
        PrefectAwayError: It had not come to an end.
    """
    global server_left  # noqa: PLW0603 - a process has one server
    server_left = True
    if _last is None:
        raise PrefectAwayError(
            f"Prefect's server went away and the release stopped ({cause}). What serves goes on serving. "
            "Start the server (lastgood up prefect) and call the same again: what was trained is kept."
        ) from cause
    value, error = _last
    if error is not None:
        raise error from cause
    return value


@contextmanager
def shown_if_possible() -> Iterator[None]:
    """Let a page that cannot be shown be missing, not stop the work it shows."""
    try:
        yield
    except AWAY as exc:
        get_run_logger().warning("Prefect's pages do not show this: %s", exc)
