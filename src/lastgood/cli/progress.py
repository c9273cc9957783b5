"""How far a step is, on stderr: a bar on a terminal, a line per change elsewhere."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lastgood.cli.output import note

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from lastgood.pipelines.progress import Progress


class ProgressView:
    """
    Shows the reports of one step after another; pass it as ``on_progress``.

        with ProgressView() as view:
            run_step(run, "train", view)
            run_step(run, "compress", view)
    """

    def __init__(self) -> None:
        """Decide by stderr how to show."""
        self._bar: Bar | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last: tuple[str, str] | None = None

    def __enter__(self) -> Self:
        """Start the bar where there is a terminal."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.fields[step]:<9}", markup=False),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("{task.description}", markup=False),
                console=Console(stderr=True),
            )
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the last state of the bar on the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, report: "Progress") -> None:
        """Show one report."""
        if self._bar is not None:
            if report.step not in self._tasks:
                self._tasks[report.step] = self._bar.add_task(report.message, total=1.0, step=report.step)
            self._bar.update(self._tasks[report.step], completed=report.fraction, description=report.message)
        elif (report.step, report.message) != self._last:
            # A log wants to know what is done now, not every hundredth of it.
            note(f"{report.step}: {report.message}")
            self._last = (report.step, report.message)
