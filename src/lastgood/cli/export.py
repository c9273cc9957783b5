"""``lastgood export``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lastgood.cli.output import print_json, print_line


def export(
    ref: str,
    folder: Path,
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """
    Write a version's files, content.json and record.json into a new or empty folder.

    Example: lastgood export digits@live ./digits

    Args:
        ref: The version.
        folder: Where to; it must be empty or not there.
        dry_run: Check and write nothing.
        json: Write JSON.
    """
    from lastgood.registry.bundle import check_export_folder, export_version
    from lastgood.registry.registry import Registry
    from lastgood.settings import load_settings

    folder = folder.absolute()
    with Registry.open(load_settings(), writer="cli") as registry:
        version = registry.resolve(ref)
        if dry_run:
            check_export_folder(folder)
            names = []
        else:
            names = export_version(registry, version.digest, folder, model=version.model)
    if json:
        print_json({"version": version, "folder": folder, "files": names})
    else:
        print_line(f"{'Would write' if dry_run else 'Wrote'} {version} ({version.digest}) to {folder}")
