"""Environments of their own for what a benchmark compares with, kept outside of the repository."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lastgood-bench"
_INSTALL_SECONDS = 600


class NotInstalledError(Exception):
    """A peer cannot be installed here; the message says why."""


def make_environment(name: str, requirements: Sequence[str]) -> Path:
    """
    Give the Python of an environment with these packages; it is made where it is missing or has others.

    Raises:
        NotInstalledError: uv could not make it; nothing of it is left.
    """
    folder = CACHE / name
    wanted = "\n".join([sys.version, *requirements])
    done = folder / "requirements.txt"
    python = folder / "bin" / "python"
    if done.exists() and done.read_text("utf-8") == wanted:
        return python
    uv = _find_uv()
    print(f"installing {name} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        for command in (
            [*uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
            [*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *requirements],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS)
    except subprocess.CalledProcessError as exc:
        shutil.rmtree(folder, ignore_errors=True)
        raise NotInstalledError(" ".join(exc.stderr.split())[-300:] or f"uv ended with {exc.returncode}") from exc
    except subprocess.TimeoutExpired as exc:
        shutil.rmtree(folder, ignore_errors=True)
        raise NotInstalledError(f"uv took longer than {_INSTALL_SECONDS} s") from exc
    done.write_text(wanted, "utf-8")
    return python


def list_versions(name: str, requirements: Sequence[str]) -> dict[str, str]:
    """Give the versions of the packages required, as they are installed."""
    command = [*_find_uv(), "pip", "list", "--quiet", "--format", "freeze", "--python", str(CACHE / name / "bin" / "python")]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = dict(line.split("==", 1) for line in text.splitlines() if "==" in line)
    names = [wanted.partition("==")[0].partition("[")[0] for wanted in requirements]
    return {own: found[own] for own in names}


def _find_uv() -> list[str]:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise NotInstalledError("uv is not installed (pip install uv)")
    return [uv]
