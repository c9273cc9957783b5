"""Commits each file under git-lfs; prints the bytes of its objects. `git_lfs_store.py FOLDER FILE…`."""

import shutil
import subprocess
import sys
from pathlib import Path

folder = Path(sys.argv[1])
folder.mkdir()


def git(*arguments: str) -> None:
    identity = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


git("init")
git("lfs", "install", "--local")
git("lfs", "track", "*.onnx")
git("add", ".gitattributes")
for file in sys.argv[2:]:
    shutil.copyfile(file, folder / "model.onnx")
    git("add", "model.onnx")
    git("commit", "--allow-empty", "-m", "a version")
print(sum(path.stat().st_size for path in (folder / ".git" / "lfs" / "objects").rglob("*") if path.is_file()))
