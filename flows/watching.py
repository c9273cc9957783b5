"""Where the steps' progress goes: into the flow run's log, and to the terminal that called the flow."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect import get_run_logger

from lastgood.pipelines.progress import OnProgress, Progress

_view: OnProgress | None = None


@contextmanager
def shown_by(view: OnProgress) -> Iterator[None]:
    """Let a terminal show the progress of the flows called inside; tasks run in threads, so this holds for all of them."""
    global _view  # noqa: PLW0603 - one process has one terminal
    _view = view
    try:
        yield
    finally:
        _view = None


def report_progress() -> OnProgress:
    """Give what a task passes its step to report to: the run's log, and the terminal that called the flow, if one did."""
    log, view = _log_each(get_run_logger().info), _view

    def report(progress: Progress) -> None:
        log(progress)
        if view is not None:
            view(progress)

    return report


def _log_each(log: Callable[[str], None]) -> OnProgress:
    last = ""

    def report(progress: Progress) -> None:
        nonlocal last
        if progress.message != last:
            last = progress.message
            log(f"{progress.step}: {progress.message}")

    return report
