"""``lastgood verify``."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lastgood.cli.output import note, print_json, print_line, print_table
from lastgood.errors import IntegrityError

if TYPE_CHECKING:
    from lastgood.registry.verify import VerifyReport


def verify(ref: str | None = None, /, *, json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """
    Check every stored byte and event; exit 5 names what is not as it was recorded.

    Example: lastgood verify digits@live

    Args:
        ref: Read only this version's files; the event log is always checked whole.
        json: Write JSON.
    """
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry:
        report = registry.verify(ref)
    if json:
        print_json({"ok": report.ok, "report": report})
    return tell(report, quiet=json)


def tell(report: "VerifyReport", *, quiet: bool) -> int:
    """Say what a check found, on stderr only where that is enough; give the exit code."""
    if report.ok and not quiet:
        print_line(
            f"Everything is as recorded: {report.versions} contents, {report.files} files ({report.bytes} bytes), {report.events} events."
        )
        if report.unreferenced_files:
            print_line(
                f"{report.unreferenced_files} of the files belong to no version: a registration did not come to its end. "
                "`lastgood gc` removes them."
            )
    if report.ok:
        return 0
    if not quiet:
        print_table("Not as recorded", ("what", "problem"), [(problem.name, problem.text) for problem in report.problems])
    first = report.problems[0]
    note(f"lastgood: {len(report.problems)} not as recorded; the first is {first.name}: {first.text}  [{IntegrityError.code}]")
    return IntegrityError.exit_code
