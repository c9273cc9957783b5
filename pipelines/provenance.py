"""Where a run came from: commit, person, library versions."""

import getpass
import os
import subprocess
from importlib import metadata
from pathlib import Path

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


def read_commit(project: Path) -> tuple[str | None, bool | None]:
    """Give the commit of a project's work tree and whether files differ from it; None and None outside git."""
    commit = _git(project, "rev-parse", "HEAD")
    if not commit:
        return None, None
    return commit, bool(_git(project, "status", "--porcelain", "--untracked-files=normal"))


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
    try:
        done = subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
