"""What an installation's serving looks like now: a list of findings, for the daily report and for `lastgood doctor`."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from lastgood.errors import ConflictError, LastgoodError, UnavailableError
from lastgood.registry.registry import Registry
from lastgood.render import Table
from lastgood.serving.client import Control
from lastgood.settings import Settings

Status = Literal["ok", "warning", "problem"]
_FREE_BYTES: Final = 2 << 30  # a training and its variants fit
_FULL_BYTES: Final = 200 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: its name, whether it is well, and a sentence with what to do where it is not."""

    name: str
    status: Status
    sentence: str


def examine_serving(settings: Settings) -> list[Finding]:
    """Look at the gateway, every model it serves, the registry and the disk; an error on the way is a finding, not an end."""
    return [*_examine_gateway(settings), *_examine_registry(settings), examine_disk(settings.home)]


def tabulate(findings: Sequence[Finding]) -> Table:
    """Give the findings as a table, the worst first."""
    order: dict[Status, int] = {"problem": 0, "warning": 1, "ok": 2}
    rows = sorted(findings, key=lambda own: order[own.status])
    return Table("Health", ("what", "status", "found"), tuple((own.name, own.status, own.sentence) for own in rows))


def examine_disk(folder: Path) -> Finding:
    """Say how much room is left where an installation writes; the folder need not exist yet."""
    place = next(own for own in (folder, *folder.parents) if own.exists())
    free = shutil.disk_usage(place).free
    sentence = f"{free / 2**30:.1f} GiB are free at {place}"
    if free < _FULL_BYTES:
        return Finding("disk", "problem", f"{sentence}: nothing can be registered or recorded. Make room.")
    if free < _FREE_BYTES:
        return Finding("disk", "warning", f"{sentence}; a training with its variants may need {_FREE_BYTES >> 30} GiB.")
    return Finding("disk", "ok", f"{sentence}.")


def _examine_gateway(settings: Settings) -> Iterator[Finding]:
    try:
        with Control(settings) as control:
            answer, states = control.ping(), control.routes()
    except (UnavailableError, ConflictError) as exc:
        yield Finding("gateway", "problem", str(exc))
        return
    unrecorded = int(answer["unrecorded"])
    if unrecorded:
        yield Finding("gateway", "warning", f"{unrecorded} decisions are in the gateway's journal only: the registry cannot be written.")
    else:
        yield Finding("gateway", "ok", f"It serves {answer['models']} models at {settings.rest_url}; every decision is recorded.")
    for state in states:
        yield _examine_model(state)


def _examine_model(state: dict[str, Any]) -> Finding:
    name, lanes = str(state["model"]), state["lanes"]
    away = [f"{name}@{lane['number']} ({lane['role']})" for lane in lanes if not lane["ready"]]
    if state["frozen"]:
        return Finding(name, "problem", f"Frozen: {state['frozen']}. Look into it, then: lastgood unfreeze {name} -m WHY.")
    if not lanes:
        return Finding(
            name, "problem", f"Nothing serves: {state['reason'] or 'no version was ever released'}. lastgood log {name} says more."
        )
    if away:
        return Finding(name, "problem", f"No replica of {', '.join(away)} is ready. lastgood log {name} says more.")
    shares = ", ".join(f"@{lane['number']} {lane['role']} {lane['share']:.0%}" for lane in lanes)
    rollout = state["rollout"]
    if rollout is not None and rollout["suspected"]:
        return Finding(name, "warning", f"The candidate is under suspicion: {shares}.")
    return Finding(name, "ok", f"{shares}.")


def _examine_registry(settings: Settings) -> Iterator[Finding]:
    try:
        with Registry.open(settings, writer="cli") as registry:
            report = registry.verify()
            taken_out = len(registry.tombstones())
    except LastgoodError as exc:
        yield Finding("registry", "problem", str(exc))
        return
    if report.problems:
        first = report.problems[0]
        yield Finding(
            "registry",
            "problem",
            f"{len(report.problems)} things are not what was recorded, first {first.name}: {first.text}. lastgood verify",
        )
        return
    yield Finding(
        "registry",
        "ok",
        f"{report.versions} versions, {report.events} events and {report.bytes / 2**20:.1f} MiB are as recorded; {taken_out} taken out.",
    )
