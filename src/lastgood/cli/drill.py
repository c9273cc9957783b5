"""``lastgood drill``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lastgood.cli.flags import Json, read_whole
from lastgood.drill.faults import FAULTS, find_fault

if TYPE_CHECKING:
    from lastgood.drill.faults import Fault
    from lastgood.drill.score import Outcome

_FAULTS = "; ".join(f"{fault.name}: {fault.does}" for fault in FAULTS.values())


def drill(
    fault: Annotated[str, Parameter(help=f"{_FAULTS}.")] = "dead",
    /,
    *,
    repeat: Annotated[int, Parameter(negative="")] = 1,
    seed: Annotated[int | None, Parameter(converter=read_whole)] = None,
    here: Annotated[bool, Parameter(negative="")] = False,
    yes: Annotated[bool, Parameter(negative="")] = False,
    metrics: Annotated[Path | None, Parameter(negative="")] = None,
    json: Json = False,
) -> int:
    """
    Release a bad version on purpose, in a throwaway registry, gateway and ports, and time the way back.

    The bad version passes the offline gate; it meets its fault only in production.
    Leaves with 0 only if every drill ended as it must: docs/drills.md says how each one does.
    Example: lastgood drill dead --repeat 20 --json

    Args:
        fault: What goes wrong.
        repeat: How many drills; the versions are trained once.
        seed: Of what is random in the fault; of repeated drills each one has the next; default 0.
        here: On the live stack, with a model of its own (drill); asks first.
        yes: Do not ask.
        metrics: Write the figures there in Prometheus' text format, for node_exporter's textfile collector.
        json: Write JSON: one object; where repeated, an object with the outcomes and their summary.
    """
    from lastgood.cli.output import note, print_json
    from lastgood.drill.score import summarize, write_metrics
    from lastgood.errors import UsageError

    found = find_fault(fault)
    if repeat < 1:
        raise UsageError(f"--repeat {repeat} is no number of drills; expected 1 or more.")
    if yes and not here:
        raise UsageError("--yes answers the question of --here; a throwaway drill asks none.")
    if metrics is not None and not metrics.parent.is_dir():
        raise UsageError(f"--metrics {metrics}: there is no folder {metrics.parent}.")
    seeds = [(seed or 0) + index for index in range(repeat)]
    outcomes = _drill_here(found, seeds, yes=yes) if here else _drill_apart(found, seeds)
    if metrics is not None:
        write_metrics(outcomes, metrics)
    if json:
        print_json(outcomes[0] if repeat == 1 else {"outcomes": outcomes, "summary": summarize(outcomes)})
    elif repeat == 1:
        _print_one(outcomes[0])
    else:
        _print_quantiles(found, outcomes)
    bad = [outcome for outcome in outcomes if not outcome.passed]
    if bad:
        failed = sum(outcome.failed_after_restore > 0 for outcome in bad)
        note(
            f"{len(bad)} of {repeat} drills did not end as they must ({bad[0].expected}; found: {bad[0].found})"
            + (f", {failed} had requests that failed after the switch" if failed else "")
        )
    return 1 if bad else 0


def _drill_apart(fault: "Fault", seeds: Sequence[int]) -> "list[Outcome]":
    import tempfile

    from lastgood.cli.progress import ProgressView
    from lastgood.drill.course import drill as run_drill
    from lastgood.drill.late import check_programs
    from lastgood.drill.place import make_versions
    from lastgood.pipelines.progress import Progress
    from lastgood.settings import load_settings

    if fault.course == "stable":
        check_programs(load_settings())
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="lastgood-drill-") as name, ProgressView() as view:
        folder = Path(name)
        run, versions = make_versions(folder / "origin", view)
        for index, seed in enumerate(seeds):
            view(Progress("drill", f"{fault.name}: {index + 1} of {len(seeds)}", index / len(seeds)))
            outcomes.append(run_drill(folder / "origin", folder / str(index), run, versions, fault, seed=seed))
        view(Progress("drill", f"{fault.name}: done", 1.0))
    return outcomes


def _drill_here(fault: "Fault", seeds: Sequence[int], *, yes: bool) -> "list[Outcome]":
    from lastgood.cli.output import note
    from lastgood.cli.progress import ProgressView
    from lastgood.drill.here import check_here, drill_here
    from lastgood.pipelines.progress import Progress
    from lastgood.settings import load_settings

    settings = load_settings()
    address = check_here(settings, fault)
    if not yes:
        _ask_first(f"Release {len(seeds)} bad version(s) of a model named 'drill' on the gateway at {address} ({fault.does})?")
    outcomes = []
    with ProgressView() as view:
        for index, seed in enumerate(seeds):
            view(Progress("drill", f"{fault.name}: {index + 1} of {len(seeds)}", index / len(seeds)))
            outcomes.append(drill_here(settings, fault, seed=seed))
        view(Progress("drill", f"{fault.name}: done", 1.0))
    note(
        f"{outcomes[-1].restored} goes on being served, by one replica. The record keeps the versions of the model drill and what happened "
        "to them: lastgood log drill."
    )
    return outcomes


def _ask_first(question: str) -> None:
    """Ask at a terminal; anything but yes ends it."""
    import sys

    from lastgood.errors import UsageError

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("--here asks before it touches the live stack, and there is no terminal to ask at: add --yes.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("That was no yes: nothing was done.")


def _print_one(one: "Outcome") -> None:
    from lastgood.cli.output import print_fields, print_table

    names = ("expected", "found", "withdrawn", "requests_to_decision", "bad_answers", "seconds_to_restored", "restored")
    fields: list[tuple[str, Any]] = [(own.replace("_", " "), getattr(one, own)) for own in (*names, "failed_after_restore")]
    print_fields(f"Drill {one.fault}", fields)
    if one.receipt is not None:
        tests = [(t["kind"], f"{t['log_evidence']:.2f}", f"{t['log_threshold']:.2f}") for t in one.receipt["verdict"]["tests"]]
        print_table("Receipt: natural logarithms of the e-values", ("events", "evidence", "convicts at"), tests)


def _print_quantiles(fault: "Fault", outcomes: "Sequence[Outcome]") -> None:
    from lastgood.cli.output import print_line, print_table
    from lastgood.drill.score import MEASURED, summarize

    summary = summarize(outcomes)
    rows = [
        (name.replace("_", " "), *(f"{summary[name][kind]:.4g}" if summary[name] else "-" for kind in ("median", "p95", "most")))
        for name in MEASURED
    ]
    print_table(f"{len(outcomes)} drills: {fault.name}", ("measured", "median", "95 %", "most"), rows)
    print_line(f"{summary['passed']} of {summary['runs']} ended as they must: {fault.expected}")
