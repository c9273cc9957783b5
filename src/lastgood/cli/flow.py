"""Calling a flow for somebody at a terminal: against this project's Prefect server where it runs, with its progress shown."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from lastgood.settings import Settings

GOES_ON: Final = "A rollout that had begun goes on without this command: lastgood routes shows it, lastgood rollback takes it out."


def call_flow(settings: Settings, flow: str, *arguments: Any, what: str, **named: Any) -> dict[str, Any]:
    """
    Call a flow and give its result.

    Args:
        settings: The project.
        flow: ``module:name`` of the flow; imported here, for Prefect's variables must be set before.
        arguments: Of the flow.
        what: Is told of where there is no server: "this release".
        named: Of the flow.

    Raises:
        LastgoodError: What the flow raised.
    """
    from lastgood.cli.output import note
    from lastgood.flows.local import prefect_settings
    from lastgood.stack.processes import Stack
    from lastgood.stack.services import prefect_environment

    variables = prefect_environment(settings)
    Path(variables["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # Prefect makes the last folder of it only
    if Stack(settings.home).running("prefect") is None:
        note(f"Prefect's server is not up (lastgood up): {what} shows on no page.")
        del variables["PREFECT_API_URL"]
    with prefect_settings(variables):
        from lastgood.cli.progress import ProgressView
        from lastgood.flows.outcome import AWAY, recall
        from lastgood.flows.watching import shown_by

        module, _, name = flow.partition(":")
        called: Callable[..., dict[str, Any]] = getattr(import_module(module), name)
        with ProgressView() as view, shown_by(view), _noticing_interrupt() as interrupted:
            try:
                return called(*arguments, **named)
            except KeyboardInterrupt:
                note(GOES_ON)
                raise
            except AWAY as exc:
                if interrupted:  # Ctrl-C ends a server of our own too, and which end is seen first is chance
                    note(GOES_ON)
                    raise KeyboardInterrupt from exc
                result: dict[str, Any] = recall(exc)
                note(f"Prefect's server went away meanwhile, so its pages do not show the end of {what}.")
                return result


@contextmanager
def _noticing_interrupt() -> Iterator[list[int]]:
    """Give a list that gets an element with each Ctrl-C; what it does otherwise stays as it is."""
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def notice(number: int, frame: Any) -> None:
        seen.append(number)
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, notice)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
