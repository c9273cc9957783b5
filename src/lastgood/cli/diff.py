"""``lastgood diff``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lastgood.cli.flags import Json
from lastgood.cli.output import note, print_json, print_line, print_table


def diff(
    before: str,
    after: str,
    /,
    *,
    show_all: Annotated[bool, Parameter(name="--all", negative="")] = False,
    json: Json = False,
    behaviour: Annotated[bool, Parameter(negative="")] = False,
    html: Path | None = None,
) -> None:
    """
    Compare two versions: files, inputs and outputs, record, metrics, the graph's operators, every tensor; also what they answer.

    Example: lastgood diff digits@stable digits --behaviour --html diff.html

    Args:
        before: One version.
        after: The other.
        show_all: Show what is equal, too.
        json: Write JSON.
        behaviour: Run both on the evaluation sets of the second one's pipeline: which rows are answered otherwise, by set and slice, and
            what each version leans on. Needs the train extras.
        html: Write one page with pictures there, too; it needs nothing else.
    """
    from lastgood.cli.progress import ProgressView
    from lastgood.pipelines.progress import Progress
    from lastgood.registry.compare.tabulate import tabulate
    from lastgood.registry.compare.versions import compare_versions
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    _check(behaviour=behaviour, html=html)
    settings, seen, evaluation = load_settings(), None, None
    with Registry.open(settings, writer="cli") as registry, ProgressView() as view:
        left, right = registry.resolve(before), registry.resolve(after)
        comparison = compare_versions(registry, left, right, lambda part: view(Progress("compare", "reading tensors", part)))
        if behaviour:
            from lastgood.pipelines.compare.behaviour import compare_behaviour

            seen, evaluation = compare_behaviour(settings, registry, left, right, view)
    if html is not None:
        from lastgood.pipelines.compare.page import write_page

        html.write_text(write_page(comparison, seen, evaluation), "utf-8")
        note(f"{html} written")
    shown = comparison if show_all else comparison.without_equal()
    if json:
        print_json({**{name: getattr(shown, name) for name in shown.__dataclass_fields__}, "behaviour": seen})
        return
    tables = tabulate(shown)
    if seen is not None:
        from lastgood.pipelines.compare.tabulate import explain, tabulate_behaviour

        tables += tabulate_behaviour(seen, str(left), str(right))
    for table in tables:
        print_table(table.title, table.columns, table.rows)
    if seen is not None:
        print_line(explain(seen))
    if not comparison.differs:
        note(f"{left} and {right} do not differ.")


def _check(*, behaviour: bool, html: Path | None) -> None:
    """Refuse at once what would fail after minutes."""
    from importlib.util import find_spec

    from lastgood.errors import UsageError

    needed = {"--behaviour": ("scipy", behaviour), "--html": ("matplotlib", html is not None)}
    for flag, (module, is_asked) in needed.items():
        if is_asked and find_spec(module) is None:
            raise UsageError(f"{flag} needs {module}, which is not installed; pip install 'lastgood[train]'.")
    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise UsageError(
            f"--html {html} {'is a folder' if html.is_dir() else f'lies in no folder that is there: {html.parent}'}; expected a file."
        )
