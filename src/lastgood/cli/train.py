"""``lastgood train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lastgood.cli.flags import Json, Seed, Why
from lastgood.cli.output import note, print_fields, print_json

if TYPE_CHECKING:
    from lastgood.pipelines.train import TrainResult


def train(
    model: str,
    /,
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    seed: Seed = None,
    why: Why = "",
    run: str | None = None,
    json: Json = False,
) -> None:
    """
    Train a model into a run folder.

    Example: lastgood train digits --set epochs=6 --seed 7 -m "six epochs"

    Args:
        model: The model's name.
        set_: A parameter, NAME=VALUE; may be given several times.
        seed: Of everything random; default: the model's next version number.
        why: Why; kept in the record.
        run: Train this run again, with its own parameters and seed; or a FILE that a new run is written to, as an archive for the
            steps that follow elsewhere; default: a new run.
        json: Write JSON.
    """
    from lastgood.cli.progress import ProgressView
    from lastgood.errors import UsageError
    from lastgood.pipelines.archive import check_target, is_archive, pack
    from lastgood.pipelines.child import run_step
    from lastgood.pipelines.parameters import parse_overrides
    from lastgood.pipelines.run import create_run, open_model_run
    from lastgood.pipelines.train import RESULT, TrainResult
    from lastgood.settings import load_settings

    settings = load_settings()
    archive = Path(run) if run is not None and is_archive(run) else None
    if archive is not None:
        check_target(archive)
    if archive is None and run is not None and (set_ or seed is not None or why):
        raise UsageError(f"Run {run} has its own parameters, seed and reason; --set, --seed and -m are for a new run: leave --run away.")
    if run is None or archive is not None:
        opened = create_run(settings, model, overrides=parse_overrides(set_ or []), seed=seed, why=why, archive=archive)
    else:
        opened = open_model_run(settings, model, run)
    with ProgressView() as view:
        run_step(opened, "train", view)
    if archive is not None:
        pack(opened, archive)
    result = opened.read(RESULT, TrainResult, step="train")
    for warning in result.warnings:
        note(warning)
    if json:
        print_json({"run": opened.id, "folder": opened.folder, "result": result})
    else:
        print_fields(f"Trained {opened.id}", _list_fields(result))
        note(f"Next: lastgood compress {model} --run {archive or opened.id}")


def _list_fields(result: "TrainResult") -> list[tuple[str, str]]:
    fields = [
        ("accuracy", f"{result.accuracy:.2%} of all evaluation rows"),
        ("size", f"{result.bytes / 1024:.1f} KiB"),
        ("rows", str(result.rows)),
    ]
    for own in result.searched:
        what = ", ".join(f"{name} {value}" for name, value in own.parameters.items())
        fields.append((what, f"{own.accuracy:.2%} of the validation rows{', chosen' if own.chosen else ''}"))
    return fields
