"""``lastgood rollback``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lastgood.cli.flags import DryRun, Json, Why
from lastgood.cli.output import note, print_json, print_line

if TYPE_CHECKING:
    from lastgood.serving.client import Control
    from lastgood.settings import Settings


def rollback(
    model: str,
    /,
    *,
    why: Why,
    to: str | None = None,
    keep: Annotated[bool, Parameter(negative="")] = False,
    only: str | None = None,
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
        only: Only if this version, or what this run's archive registered, is the candidate of a running rollout; otherwise
            nothing is changed. For a build that did not succeed and takes back what it began.
        dry_run: Say what would be done, and do nothing.
        json: Write JSON.
    """
    from lastgood.cli.person import who
    from lastgood.errors import UsageError
    from lastgood.serving.client import Control
    from lastgood.settings import load_settings

    settings = load_settings()
    if only is not None and to is not None:
        raise UsageError("--only takes a candidate out and --to says who serves instead of the live version: give one of them.")
    with Control(settings) as control:
        if only is not None:
            state = _take_back(settings, control, model, only, keep=keep, why=why, dry_run=dry_run)
            if json:
                print_json(state)
            return
        if dry_run:
            state = control.state(model)
            bad, back = state["would_take_out"], to or (state["would_return_to"] and f"{model}@{state['would_return_to']['number']}")
            note(f"would take {model}@{bad['number']} out and serve {back}" if bad and back else f"{model} has nothing to go back to")
            return
        state = control.rollback(model, to=to, keep=keep, actor=who(), why=why)
    if state["unrecorded"]:
        note("The shared record does not hold it yet; the gateway goes on trying. Why not: lastgood status, and the gateway's log.")
    if json:
        print_json(state)
    else:
        print_line(f"{model}@{state['live']['number']} serves {'now' if to else 'again'} ({state['live']['digest'][:19]})")


def _take_back(
    settings: "Settings", control: "Control", model: str, only: str, *, keep: bool, why: str, dry_run: bool
) -> dict[str, Any] | None:
    """Withdraw one candidate if its rollout runs; say what became of it, and give the model's state if there is one."""
    from lastgood.cli.person import who
    from lastgood.errors import NotFoundError
    from lastgood.pipelines.archive import is_archive, unpack
    from lastgood.pipelines.errors import StepOrderError
    from lastgood.pipelines.register import read_registered
    from lastgood.registry.registry import Registry

    try:
        with Registry.open(settings, writer="cli") as registry:
            version = registry.resolve(read_registered(unpack(settings, Path(only))) if is_archive(only) else only)
        before = control.state(model)
    except (StepOrderError, NotFoundError) as exc:
        note(f"Nothing is taken out: {exc}")  # it never came that far
        return None
    rollout = before["rollout"]
    if rollout is None or rollout["candidate"]["digest"] != version.digest or rollout["state"] in {"stable", "withdrawn"}:
        note(f"Nothing is taken out: no rollout of {version} runs.")
        return before
    if dry_run:
        note(f"would take {version} out: it is {rollout['state']}")
        return before
    state = control.rollback(model, to=None, keep=keep, actor=who(), why=why, only=version.digest)
    found = state["rollout"]
    ended = found is not None and found["candidate"]["digest"] == version.digest and found["state"]
    note(f"{version} {ended or 'was overtaken by another rollout'}; {_serving(model, state)}.")
    return state


def _serving(model: str, state: dict[str, Any]) -> str:
    return f"{model}@{state['live']['number']} serves" if state["live"] else "nothing serves"
