"""``lastgood log``."""

from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from lastgood.cli.output import note, print_json, print_table

SHOWN = 30


def log(
    model: str | None = None, /, *, limit: PositiveInt | None = None, json: Annotated[bool, Parameter(name="--json", negative="")] = False
) -> None:
    """
    Show what happened, newest first.

    Example: lastgood log digits --limit 100

    Args:
        model: Only what happened to this model.
        limit: How many events at most; default: 30, and with --json all.
        json: Write JSON: the events whole, with their hashes.
    """
    from lastgood.cli.sentences import tell
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry:
        events = registry.events(model=model, limit=limit or (None if json else SHOWN), newest_first=True)
        if model is not None and not events:
            registry.versions(model)  # says which models there are
    if json:
        print_json(events)
    elif events:
        rows = [(event.position, event.time, event.actor, tell(event)) for event in events]
        print_table("What happened, newest first", ("event", "time", "actor", "what"), rows)
    else:
        note("Nothing happened yet.")
