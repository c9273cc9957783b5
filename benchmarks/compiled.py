"""
Runs a benchmark, or any script, with the compiled package, as images have it.

    python benchmarks/compiled.py benchmarks/overload.py [its arguments]
    python benchmarks/compiled.py --where     # say where the package is, for PYTHONPATH

The package is built once for each state of the sources, below ~/.cache/lastgood-bench.
"""

import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from environments import CACHE

from lastgood.serving.gateway import route

ROOT: Final = Path(__file__).resolve().parents[1]
# What an image is built from.
NEEDED: Final = [line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")]
COMPILED: Final = not route.__file__.endswith(".py")


def build() -> Path:
    """
    Give a folder with the compiled package in it.

    Raises:
        SystemExit: It cannot be built; says why.
    """
    files = sorted(path for own in NEEDED for path in (ROOT / own).rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in (ROOT / "setup.py", *files))).hexdigest()[:16]
    folder = CACHE / f"ours-{sys.version_info.major}.{sys.version_info.minor}-{digest}"
    if folder.exists():
        return folder
    print("compiling ...", file=sys.stderr)
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob("ours-*"):
        shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=CACHE) as name:
        source, wheels, package = (Path(name, own) for own in ("source", "wheels", "package"))
        _copy(source)
        command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source)]
        done = subprocess.run(command, env={**os.environ, "LASTGOOD_COMPILE": "1"}, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"It cannot be compiled; gcc and `make .venv/.ready-dev` are needed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(package)
        package.rename(folder)
    return folder


def _copy(folder: Path) -> None:
    """Copy what is built: in the tree itself, what an earlier build left would be packed too."""
    folder.mkdir()
    for own in NEEDED:
        if (ROOT / own).is_dir():
            shutil.copytree(ROOT / own, folder / own, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so"))
        else:
            shutil.copy2(ROOT / own, folder / own)


def enter() -> None:
    """Go on with the compiled package: this program is started anew, unless it runs with it already."""
    if COMPILED:
        return
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(build()), os.environ.get("PYTHONPATH"))))}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # noqa: S606 - no shell


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--where":
        print(build())
        sys.exit()
    enter()
    sys.argv = sys.argv[1:]
    sys.argv[0] = str(Path(sys.argv[0]).resolve())  # what lies beside it is found from other folders, too
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
