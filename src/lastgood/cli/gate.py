"""``lastgood gate``."""

from lastgood.cli.flags import Json
from lastgood.cli.output import note, print_json, print_table


def gate(model: str, /, *, run: str | None = None, json: Json = False) -> None:
    """
    Test a run's model and say whether it may be released; exit code 3 when it may not.

    Example: lastgood gate digits

    Args:
        model: The model's name.
        run: Which run; default: the model's newest.
        json: Write JSON.
    """
    from lastgood.cli.progress import ProgressView
    from lastgood.pipelines.child import run_step
    from lastgood.pipelines.errors import GateRefusedError
    from lastgood.pipelines.gate import REPORT, VERDICT, GateVerdict, tabulate
    from lastgood.pipelines.run import open_model_run
    from lastgood.settings import load_settings

    opened = open_model_run(load_settings(), model, run)
    refused: GateRefusedError | None = None
    with ProgressView() as view:
        try:
            run_step(opened, "gate", view)
        except GateRefusedError as exc:
            refused = exc
    # A refusal is an answer: it is shown like one, then it decides the exit code.
    verdict = opened.read(VERDICT, GateVerdict, step="gate")
    if json:
        print_json({"run": opened.id, "folder": opened.folder, "report": opened.folder / REPORT, "result": verdict})
    else:
        table = tabulate(verdict)
        print_table(f"{table.title}: {opened.id}", table.columns, table.rows)
        note(f"Report: {opened.folder / REPORT}")
    if refused is not None:
        raise refused
    if not json:
        note(f"Next: lastgood register {model} --run {opened.id}")
