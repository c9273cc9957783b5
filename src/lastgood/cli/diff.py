"""``lastgood diff``."""

from typing import Annotated

from cyclopts import Parameter

from lastgood.cli.flags import Json
from lastgood.cli.output import note, print_json, print_table


def diff(
    before: str,
    after: str,
    /,
    *,
    show_all: Annotated[bool, Parameter(name="--all", negative="")] = False,
    json: Json = False,
) -> None:
    """
    Compare two versions: files, inputs and outputs, record, metrics, the graph's operators, every tensor.

    Example: lastgood diff digits@stable digits

    Args:
        before: One version.
        after: The other.
        show_all: Show what is equal, too.
        json: Write JSON.
    """
    from lastgood.cli.progress import ProgressView
    from lastgood.pipelines.progress import Progress
    from lastgood.registry.compare.tabulate import tabulate
    from lastgood.registry.compare.versions import compare_versions
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry, ProgressView() as view:
        left, right = registry.resolve(before), registry.resolve(after)
        comparison = compare_versions(registry, left, right, lambda part: view(Progress("compare", "reading tensors", part)))
    shown = comparison if show_all else comparison.without_equal()
    if json:
        print_json(shown)
        return
    for table in tabulate(shown):
        print_table(table.title, table.columns, table.rows)
    if not comparison.differs:
        note(f"{left} and {right} do not differ.")
