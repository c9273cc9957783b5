"""Adds files to DVC in their order, as one project would; prints the bytes of its cache. `dvc_store.py FOLDER FILE…`."""

import shutil
import subprocess
import sys
from pathlib import Path

folder = Path(sys.argv[1])
folder.mkdir()
dvc = [sys.executable, "-m", "dvc"]
subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=folder, check=True)
for number, file in enumerate(sys.argv[2:]):
    shutil.copyfile(file, folder / f"{number}.onnx")
subprocess.run([*dvc, "add", "--quiet", *(f"{number}.onnx" for number in range(len(sys.argv) - 2))], cwd=folder, check=True)
print(sum(path.stat().st_size for path in (folder / ".dvc" / "cache").rglob("*") if path.is_file()))
