"""``lastgood drill``."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from lastgood.cli.flags import Json


def drill(fault: str = "dead", /, *, repeat: Annotated[int, Parameter(negative="")] = 1, json: Json = False) -> int:
    """
    Release a bad version on purpose, in a throwaway registry, gateway and ports, and time the way back.

    The bad version passes the offline gate; it meets its fault only in production.
    Example: lastgood drill dead --repeat 20 --json

    Args:
        fault: dead: every request fails; nan: every answer is not a number.
        repeat: How many drills; the versions are trained once.
        json: Write JSON: one object, or a list where repeated.
    """
    import tempfile
    from pathlib import Path

    from lastgood.cli.output import note, print_fields, print_json, print_table
    from lastgood.cli.progress import ProgressView
    from lastgood.drill.place import make_versions
    from lastgood.drill.replica import FAULTS
    from lastgood.drill.run import drill as run_drill
    from lastgood.errors import UsageError
    from lastgood.pipelines.progress import Progress

    if fault not in FAULTS:
        raise UsageError(f"There is no fault {fault!r}; expected one of: {', '.join(FAULTS)}.")
    if repeat < 1:
        raise UsageError(f"--repeat {repeat} is no number of drills; expected 1 or more.")
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="lastgood-drill-") as name:
        folder = Path(name)
        with ProgressView() as view:
            run, versions = make_versions(folder / "origin", view)
            for index in range(repeat):
                view(Progress("drill", f"{fault}: {index + 1} of {repeat}", index / repeat))
                outcomes.append(run_drill(folder / "origin", folder / str(index), run, versions, fault))
            view(Progress("drill", f"{fault}: done", 1.0))
    if json:
        print_json(outcomes[0] if repeat == 1 else outcomes)
    elif repeat == 1:
        one = outcomes[0]
        names = ("withdrawn", "requests_to_decision", "bad_answers", "seconds_to_restored", "restored", "failed_after_restore")
        print_fields(f"Drill {fault}", [(own.replace("_", " "), getattr(one, own)) for own in names])
        tests = [(t["kind"], f"{t['log_evidence']:.2f}", f"{t['log_threshold']:.2f}") for t in one.receipt["verdict"]["tests"]]
        print_table("Receipt: natural logarithms of the e-values", ("events", "evidence", "convicts at"), tests)
    else:
        _print_quantiles(fault, outcomes)
    bad = [outcome for outcome in outcomes if outcome.failed_after_restore]
    if bad:
        note(f"{len(bad)} of {repeat} drills had requests that failed after the switch")
    return 1 if bad else 0


def _print_quantiles(fault: str, outcomes: Sequence[object]) -> None:
    import numpy as np

    from lastgood.cli.output import print_table

    names = ("requests_to_decision", "bad_answers", "seconds_to_restored", "failed_after_restore")
    rows = []
    for name in names:
        values = [float(getattr(outcome, name)) for outcome in outcomes]
        low, median, high, most = np.quantile(values, [0.05, 0.5, 0.95, 1.0])
        rows.append((name.replace("_", " "), *(f"{value:.4g}" for value in (low, median, high, most))))
    print_table(f"{len(outcomes)} drills: {fault}", ("measured", "5 %", "median", "95 %", "most"), rows)
