"""``lastgood diff``."""

from typing import Annotated

from cyclopts import Parameter

from lastgood.cli.output import note, print_json, print_table


def diff(
    before: str,
    after: str,
    /,
    *,
    show_all: Annotated[bool, Parameter(name="--all", negative="")] = False,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """
    Compare two versions: files, inputs and outputs, record, metrics.

    Example: lastgood diff digits@stable digits

    Args:
        before: One version.
        after: The other.
        show_all: Show what is equal, too.
        json: Write JSON.
    """
    from lastgood.registry.compare import compare_versions
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry:
        left, right = registry.resolve(before), registry.resolve(after)
        lines = [line for line in compare_versions(registry, left, right) if show_all or line.differs]
    if json:
        print_json({"before": left, "after": right, "lines": lines})
    elif lines:
        rows = [(line.part, line.name, line.before, line.after) for line in lines]
        print_table(f"{left} and {right}", ("part", "name", str(left), str(right)), rows)
    else:
        note(f"{left} and {right} do not differ.")
