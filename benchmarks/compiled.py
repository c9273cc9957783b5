"""
Runs a benchmark, or any script, with the compiled package, as images have it.

    python benchmarks/compiled.py benchmarks/overload.py [its arguments]

The package is built once for each state of the sources, below ~/.cache/lastgood-bench.
"""

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

from lastgood.serving.gateway import route

ROOT: Final = Path(__file__).resolve().parents[1]
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lastgood-bench"
COMPILED: Final = not route.__file__.endswith(".py")


def build() -> Path:
    """
    Give a folder with the compiled package in it.

    Raises:
        SystemExit: It cannot be built; says why.
    """
    sources = [ROOT / "setup.py", *sorted((ROOT / "serving").rglob("*.py")), *sorted((ROOT / "src").rglob("*.py"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    folder = CACHE / f"ours-{sys.version_info.major}.{sys.version_info.minor}-{digest}"
    if folder.exists():
        return folder
    print("compiling ...", file=sys.stderr)
    for old in CACHE.glob("ours-*"):
        shutil.rmtree(old)
    partial = folder.with_name(folder.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(partial), str(ROOT)]
    done = subprocess.run(command, env={**os.environ, "LASTGOOD_COMPILE": "1"}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(
            f"The package cannot be compiled (gcc, and `make .venv/.ready-dev`, are needed):\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    (wheel,) = partial.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(partial)
    wheel.unlink()
    partial.rename(folder)
    return folder


def enter() -> None:
    """Go on with the compiled package: this program is started anew, unless it runs with it already."""
    if COMPILED:
        return
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(build()), os.environ.get("PYTHONPATH"))))}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # noqa: S606 - no shell


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    enter()
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
