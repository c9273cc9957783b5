"""``lastgood explain``."""

from pathlib import Path
from typing import Any

from lastgood.cli.flags import Json


def explain(event: str, /, *, page: Path | None = None, json: Json = False) -> int:
    """
    Recompute why a version was taken out, from the receipt in its event.

    Example: lastgood log digits, then lastgood explain 4f1d --page why.html

    Args:
        event: The event's position or the start of its hash; or a model, for its last withdrawal.
        page: Write an HTML page with the evidence drawn over the requests, too.
        json: Write JSON.
    """
    from lastgood.cli.output import note, print_fields, print_json, print_line, print_table
    from lastgood.errors import IntegrityError
    from lastgood.monitoring.judge.page import COUNTED
    from lastgood.monitoring.judge.receipt import recompute, write_odds
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry:
        found = _find(registry, event)
    payload: dict[str, Any] = dict(found.payload)
    receipt = payload.pop("receipt", None)
    again = None if receipt is None else recompute(receipt)
    shown = [(name, payload[name]) for name in ("time", "version", "cause", "why") if payload.get(name) is not None]
    if page is not None:
        _write_page(page, found, shown, receipt)
        note(f"{page} written")
    if json:
        verdict = None if again is None else again.verdict.to_json()
        print_json({"event": found, "receipt": receipt, "recomputed": verdict, "agrees": None if again is None else again.agrees})
    else:
        print_fields(f"{found.kind} {found.model} (event {found.position})", shown)
        if again is None or receipt is None:
            print_line(f"Noted by {found.actor}, and not decided by the judge: there is no receipt to compute again.")
            return 0
        rows = [
            (i, f"{step['share']:.0%}", role, *(step[role].get(name, 0) for name in COUNTED))
            for i, step in enumerate(receipt["steps"], start=1)
            for role in ("candidate", "baseline")
        ]
        print_table("What was counted", ("step", "share", "role", *COUNTED), rows)
        tests = [
            (t.kind, write_odds(t.log_evidence), write_odds(t.log_threshold), "convicts" if t.convicts else "") for t in again.verdict.tests
        ]
        print_table("Evidence, computed again", ("events", "e-value", "threshold", ""), tests)
        now, then = again.verdict, again.recorded
        print_line(f"Recomputed: {now.decision} ({now.kind}); recorded: {then['decision']} ({then['kind']}).")
    if again is not None and not again.agrees:
        raise IntegrityError(
            f"The receipt of event {found.position} does not give the recorded verdict: it was changed, "
            f"or the judge of lastgood {again.written_by} decided otherwise."
        )
    return 0


def _find(registry: Any, event: str) -> Any:
    from lastgood.errors import NotFoundError

    if event in registry.models():
        withdrawn = [found for found in registry.events(model=event, newest_first=True) if found.kind == "withdrawn"]
        if not withdrawn:
            raise NotFoundError(f"No version of {event} was ever taken out.")
        return withdrawn[0]
    return registry.event(event)


def _write_page(path: Path, found: Any, shown: list[tuple[str, Any]], receipt: dict[str, Any] | None) -> None:
    from lastgood.errors import UsageError
    from lastgood.monitoring.judge.page import write_page

    if receipt is None:
        raise UsageError(f"Event {found.position} was decided by a person or an alert: there is no evidence to draw. Leave --page out.")
    if not path.parent.is_dir():
        raise UsageError(f"--page {path}: there is no folder {path.parent}.")
    try:
        text = write_page(f"{found.kind} {found.model}@{found.payload.get('version', '?')}", [("event", found.position), *shown], receipt)
    except ModuleNotFoundError as exc:
        raise UsageError(f"--page draws with {exc.name}, which is not installed; pip install 'lastgood[train]'.") from exc
    path.write_text(text, "utf-8")
