"""``lastgood import``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lastgood.cli.output import note, print_json, print_line


def import_(
    file: Path,
    /,
    *,
    model: str,
    why: Annotated[str | None, Parameter(name=["--message", "-m"])] = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """
    Register an ONNX file or an exported version.

    Example: lastgood import model.onnx --model digits -m "from the research team"

    Args:
        file: An ONNX file, or a folder made by `lastgood export` (which keeps its digest).
        model: The model it becomes a version of.
        why: The reason.
        dry_run: Check it and register nothing.
        json: Write JSON.
    """
    from lastgood.cli.person import who
    from lastgood.registry.bundle import import_path
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    with Registry.open(load_settings(), writer="cli") as registry:
        imported = import_path(registry, file, model=model, actor=who(), why=why, dry_run=dry_run)
    for sentence in imported.notes:
        note(sentence)
    version = imported.version
    if json:
        print_json({"digest": imported.digest, "version": version, "notes": imported.notes})
    elif version is None:
        print_line(f"Would register {imported.digest} as a version of {model}.")
    elif version.new:
        print_line(f"{version} {version.digest}")
    else:
        print_line(f"{version} {version.digest} (was registered already)")
