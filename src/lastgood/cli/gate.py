"""``lastgood gate``."""

import shutil
from pathlib import Path

from lastgood.cli.flags import Json
from lastgood.cli.output import note, print_json, print_table


def gate(model: str, /, *, run: str | None = None, report_dir: Path | None = None, json: Json = False) -> None:
    """
    Test a run's model and say whether it may be released; exit code 3 when it may not.

    Example: lastgood gate digits

    Args:
        model: The model's name.
        run: Which run, or the archive it came in; default: the model's newest.
        report_dir: Write junit.xml, report.html and report.md there too, whatever the answer.
        json: Write JSON.
    """
    from lastgood.cli.progress import ProgressView
    from lastgood.errors import UsageError
    from lastgood.pipelines.archive import hand_over
    from lastgood.pipelines.child import run_step
    from lastgood.pipelines.errors import GateRefusedError
    from lastgood.pipelines.gate import REPORT, REPORTS, VERDICT, GateVerdict, tabulate
    from lastgood.settings import load_settings

    if report_dir is not None and report_dir.exists() and not report_dir.is_dir():
        raise UsageError(f"--report-dir {report_dir} is a file; expected a folder.")
    refused: GateRefusedError | None = None
    with hand_over(load_settings(), model, run) as opened, ProgressView() as view:
        try:
            run_step(opened, "gate", view)
        except GateRefusedError as exc:
            refused = exc
    if report_dir is not None:
        report_dir.mkdir(parents=True, exist_ok=True)
        for name in REPORTS:
            shutil.copyfile(opened.folder / name, report_dir / Path(name).name)
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
        note(f"Next: lastgood register {model} --run {run or opened.id}")
