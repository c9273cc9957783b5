"""``lastgood new``."""

import keyword
from pathlib import Path

from lastgood.cli.flags import DryRun, Json
from lastgood.cli.output import note, print_json, print_line

# Written next to this file, so that they are read as what they become.
_FILES = {
    "lastgood.toml": "lastgood.toml.tmpl",
    "{module}.py": "pipeline.py.tmpl",
    ".gitignore": "gitignore.tmpl",
    "README.md": "readme.md.tmpl",
}


def new(
    name: str,
    /,
    *,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """
    Write a folder with a pipeline of your own to start from, which can be released as it is.

    Example: lastgood new churn

    Args:
        name: The model's name, and the folder's.
        dry_run: Say what would be written, and write nothing.
        json: Write JSON.
    """
    from lastgood.errors import ConflictError, UsageError
    from lastgood.refs import check_model_name

    check_model_name(name)
    module = name.replace("-", "_")
    if keyword.iskeyword(module):
        raise UsageError(f"{name!r} is a word of Python's own and cannot name a file to import; choose another.")
    folder = Path(name)
    if folder.exists():
        raise ConflictError(f"{folder.resolve()} exists already; choose another name, or remove it first.")
    files = {folder / target.format(module=module): _fill(template, name, module) for target, template in _FILES.items()}
    if not dry_run:
        folder.mkdir()
        for path, text in files.items():
            path.write_text(text, "utf-8")
    if json:
        print_json({"folder": folder.resolve(), "files": [path.name for path in files], "written": not dry_run})
        return
    for path in files:
        print_line(str(path))
    note(f"Next: cd {name} && lastgood release {name}")


def _fill(template: str, name: str, module: str) -> str:
    text = (Path(__file__).parent / "templates" / template).read_text("utf-8")
    return text.replace("@NAME@", name).replace("@MODULE@", module).replace("@CLASS@", module.title().replace("_", ""))
