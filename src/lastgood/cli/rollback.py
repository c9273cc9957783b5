"""``lastgood rollback``."""

from typing import Annotated

from cyclopts import Parameter

from lastgood.cli.flags import DryRun, Json, Why


def rollback(
    model: str,
    /,
    *,
    why: Why,
    to: str | None = None,
    keep: Annotated[bool, Parameter(negative="")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """
    Take out the candidate of a running rollout, else the live version; the last good version serves again at once.

    Example: lastgood rollback digits -m "wrong labels reported by support"

    Args:
        model: Which model.
        why: Why; kept in the record.
        to: The version to go back to; default: the last one that proved itself.
        keep: Do not tombstone what is taken out: it may be deployed again.
        dry_run: Say what would be done, and do nothing.
        json: Write JSON.
    """
    from lastgood.cli.output import note, print_json, print_line
    from lastgood.cli.person import who
    from lastgood.serving.client import Control
    from lastgood.settings import load_settings

    with Control(load_settings()) as control:
        if dry_run:
            state = control.state(model)
            bad, back = state["would_take_out"], to or (state["would_return_to"] and f"{model}@{state['would_return_to']['number']}")
            note(f"would take {model}@{bad['number']} out and serve {back}" if bad and back else f"{model} has nothing to go back to")
            return
        state = control.rollback(model, to=to, keep=keep, actor=who(), why=why)
    if json:
        print_json(state)
    else:
        print_line(f"{model}@{state['live']['number']} serves {'now' if to else 'again'} ({state['live']['digest'][:19]})")
