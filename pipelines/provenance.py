"""Where a run came from: commit, person, library versions."""

import getpass
import os
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

_SECONDS = 30
LIBRARIES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "scikit-learn",
    "skl2onnx",
    "tensorflow",
    "tensorflow-model-optimization",
    "tf-keras",
    "tf2onnx",
)


def read_commit(project: Path, *, pipeline: Path | None = None, ours: Sequence[Path] = ()) -> tuple[str | None, bool | None]:
    """
    Give the commit of a project's work tree and whether files differ from it.

    Args:
        project: A folder of the work tree.
        pipeline: A file that must be in the commit if it lies in the work tree, even where git is told to ignore it.
        ours: What lastgood itself writes, which is no change.

    Returns:
        None and None outside git; None for the second where git cannot say, which is not the same as no.
    """
    commit = _git(project, "rev-parse", "HEAD")
    if not commit:
        return None, None
    kept_out = [f":(exclude,top){path}" for path in _below(project, ours)]
    changed = _ask_git(project, "status", "--porcelain", "--untracked-files=normal", "--", ":/", *kept_out)
    if changed is None:
        return commit, None
    tracked = all(_git(project, "ls-files", "--", f":(top){path}") for path in _below(project, [pipeline] if pipeline else []))
    return commit, bool(changed) or not tracked


def _below(project: Path, paths: Sequence[Path]) -> list[str]:
    """Give those of the paths that lie in the work tree, as git names them from its top."""
    top = Path(_git(project, "rev-parse", "--show-toplevel") or project)
    found = (path.resolve() for path in paths)
    return [path.relative_to(top).as_posix() for path in found if path.is_relative_to(top) and path != top]


def read_author(project: Path) -> str:
    """Give git's user name, else the account's name."""
    return _git(project, "config", "user.name") or _account()


def read_origin(project: Path) -> str:
    """Give the address of git's remote ``origin``; empty where there is none."""
    return _git(project, "remote", "get-url", "origin")


def read_libraries() -> dict[str, str]:
    """Give the versions of the installed libraries that decide what a training gives."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # the base install serves without them
    return found


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"  # containers run as accounts without a name


def _git(project: Path, *arguments: str) -> str:
    return _ask_git(project, *arguments) or ""


def _ask_git(project: Path, *arguments: str) -> str | None:
    """Give what git says; None where it fails, is missing or does not answer in time."""
    try:
        done = subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
