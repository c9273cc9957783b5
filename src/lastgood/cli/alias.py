"""``lastgood alias``."""

from typing import Annotated

from cyclopts import Parameter

from lastgood.cli.output import print_json, print_line


def alias(
    ref: str,
    name: str,
    /,
    *,
    why: Annotated[str, Parameter(name=["--message", "-m"])],
    remove: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """
    Point an alias of your own to a version, or remove it.

    Example: lastgood alias digits@7 audited -m "passed the audit of March"

    Args:
        ref: The version it points to from now on; with --remove, any version of the model.
        name: The alias. `live` and `stable` are moved by rollouts only.
        why: The reason.
        remove: Remove the alias.
        json: Write JSON.
    """
    from lastgood.cli.person import who
    from lastgood.registry.errors import AliasNotFoundError
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry:
        version = registry.resolve(ref)
        if remove and name not in registry.aliases(version.model):
            raise AliasNotFoundError(f"{version.model} has no alias {name!r}: there is nothing to remove.")
        registry.move_alias(version.model, name, None if remove else version.digest, actor=who(), why=why)
        aliases = registry.aliases(version.model)
    if json:
        print_json(aliases)
    else:
        print_line(f"Removed {version.model}@{name}" if remove else f"{version.model}@{name} is {version}")
