"""Calling what a user wrote, so that its errors point at the user's own line."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lastgood.errors import LastgoodError
from lastgood.pipelines.errors import PipelineError


@contextmanager
def calling(file: Path, what: str) -> Iterator[None]:
    """
    Turn any error inside into a sentence with the deepest line of the user's file.

    Args:
        file: The pipeline's file.
        what: What is called, for the sentence: "load()".

    Raises:
        PipelineError: Whatever the user's code raised, except lastgood's own errors, which are sentences already.
    """
    try:
        yield
    except LastgoodError:
        raise
    except Exception as exc:  # a user's code may raise anything
        raise PipelineError(describe(exc, file, what)) from exc


def describe(exc: BaseException, file: Path, what: str) -> str:
    """Say what was raised, where in the user's file, and by which line."""
    text = f"{type(exc).__name__}: {exc}".strip().splitlines()[0]
    if isinstance(exc, SyntaxError) and exc.filename and Path(exc.filename) == file:
        return f"{file.name}, line {exc.lineno}, cannot be read: {text}."
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if Path(frame.filename) == file]
    if not frames:
        return f"{what} of {file.name} failed: {text}."
    last = frames[-1]
    return f"{file.name}, line {last.lineno}, failed in {what}: {text}. The line is: {last.line}"
