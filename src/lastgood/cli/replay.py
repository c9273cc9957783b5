"""``lastgood replay``."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lastgood.cli.flags import Json

MOST_BYTES = 256 * 1024 * 1024


def replay(log: Path, /, *, policy: Path, model: Annotated[str | None, Parameter(negative="")] = None, json: Json = False) -> int:
    """
    Say what another policy would have decided on recorded rollouts, and when.

    The shares are as they were: only what the judge tolerates is changed.
    Example: lastgood log digits --json > log.json, then lastgood replay log.json --policy stricter.toml

    Args:
        log: Events as `lastgood log --json` writes them.
        policy: TOML or JSON with the values of a model's rollout table; what is missing takes its default.
        model: Only this model's rollouts.
        json: Write JSON.
    """
    from lastgood.cli.output import note, print_json, print_table
    from lastgood.monitoring.judge.replay import read_log
    from lastgood.monitoring.judge.replay import replay as replay_one
    from lastgood.serving.rollout.policy import read_policy

    tolerated = read_policy(_read_policy_file(policy), source=str(policy)).judge
    recorded = [own for own in read_log(_read_events(log)) if model in {None, own.model}]
    replayed = [replay_one(own, tolerated) for own in recorded]
    if json:
        print_json(
            [
                {
                    "model": own.recorded.model,
                    "version": own.recorded.version,
                    "recorded": own.recorded.decided,
                    "recorded_requests": own.recorded.moments[-1].requests,
                    "verdict": own.verdict.to_json(),
                    "requests": None if own.at is None else own.at.requests,
                    "broken": None if own.at is None else own.at.broken,
                    "exact": own.recorded.exact,
                }
                for own in replayed
            ]
        )
    elif replayed:
        rows = []
        for own in replayed:
            last = own.recorded.moments[-1]
            at = own.at
            when = "-" if at is None else f"{'' if own.recorded.exact else 'by '}{at.requests:,}"
            decided = own.verdict.decision if own.verdict.kind is None else f"{own.verdict.decision} ({own.verdict.kind})"
            broken = "-" if at is None else str(at.broken)
            rows.append((f"{own.recorded.model}@{own.recorded.version}", own.recorded.decided, f"{last.requests:,}", decided, when, broken))
        print_table(f"By {policy}", ("version", "recorded", "requests", "would be", "at request", "broken by then"), rows)
    else:
        note(f"There is no rollout with counts in {log}.")
    return 0


def _read_events(path: Path) -> list[Any]:
    import json

    from lastgood.errors import UsageError

    try:
        events = json.loads(_read_text(path))
    except json.JSONDecodeError as exc:
        raise UsageError(f"{path} is no JSON: {exc}. Expected what `lastgood log --json` writes.") from exc
    if not isinstance(events, list):
        raise UsageError(f"{path} holds {type(events).__name__}, expected the list of events that `lastgood log --json` writes.")
    return events


def _read_policy_file(path: Path) -> dict[str, Any]:
    import json
    import tomllib

    from lastgood.errors import UsageError

    text = _read_text(path)
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as exc:
        raise UsageError(f"{path} is neither TOML nor, by its name, JSON: {exc}.") from exc
    if not isinstance(values, dict):
        raise UsageError(f"{path} holds {type(values).__name__}, expected a table of policy values such as alpha = 0.001.")
    return values


def _read_text(path: Path) -> str:
    from lastgood.errors import UsageError

    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} has {path.stat().st_size} bytes; at most {MOST_BYTES} are read.")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path} cannot be read: {exc}.") from exc
