"""Calling a flow from a terminal: against this project's own Prefect server, quietly."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def prefect_settings(variables: Mapping[str, str]) -> Iterator[None]:
    """
    Set Prefect's variables for flows called inside; entered before anything of Prefect is imported.

    What is set already wins: a user's own server or profile is not overruled.
    """
    quiet = {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        # A server that went away is not waited for a minute at every word to it: the release goes on without.
        "PREFECT_CLIENT_MAX_RETRIES": "1",
    }
    wanted = {name: value for name, value in {**quiet, **variables}.items() if name not in os.environ}
    os.environ.update(wanted)
    raising, logging.raiseExceptions = logging.raiseExceptions, False  # a line that the server does not take is no news for a terminal
    try:
        yield
    finally:
        logging.raiseExceptions = raising
        for name in wanted:
            os.environ.pop(name, None)
