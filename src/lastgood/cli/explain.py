"""``lastgood explain``."""

import math
from typing import Any

from lastgood.cli.flags import Json


def explain(event: str, /, *, json: Json = False) -> int:
    """
    Recompute why a version was taken out, from the receipt in its event.

    Example: lastgood log digits, then lastgood explain 4f1d

    Args:
        event: The event's position or the start of its hash; or a model, for its last withdrawal.
        json: Write JSON.
    """
    from lastgood.cli.output import print_fields, print_json, print_line, print_table
    from lastgood.errors import IntegrityError
    from lastgood.monitoring.judge.receipt import recompute
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry:
        found = _find(registry, event)
    payload: dict[str, Any] = dict(found.payload)
    receipt = payload.pop("receipt", None)
    again = None if receipt is None else recompute(receipt)
    if json:
        verdict = None if again is None else again.verdict.to_json()
        print_json({"event": found, "receipt": receipt, "recomputed": verdict, "agrees": None if again is None else again.agrees})
    else:
        fields = [
            ("time", payload.get("time")),
            ("version", payload.get("version")),
            ("cause", payload.get("cause")),
            ("why", payload.get("why")),
        ]
        print_fields(f"{found.kind} {found.model} (event {found.position})", [(name, value) for name, value in fields if value is not None])
        if again is None or receipt is None:
            print_line("Decided by a person or an alert: there is no receipt to compute again.")
            return 0
        rows = [
            (i, f"{step['share']:.0%}", role, *(step[role][name] for name in ("requests", "failed", "invalid", "slow", "deaths")))
            for i, step in enumerate(receipt["steps"], start=1)
            for role in ("candidate", "baseline")
        ]
        print_table("What was counted", ("step", "share", "role", "requests", "failed", "invalid", "slow", "deaths"), rows)
        tests = [(t.kind, _odds(t.log_evidence), _odds(t.log_threshold), "convicts" if t.convicts else "") for t in again.verdict.tests]
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


def _odds(log: float) -> str:
    return f"{math.exp(log):,.3g}" if log < 300 else f"e^{log:.0f}"
