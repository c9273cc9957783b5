"""What sets of files weigh in a store: ours, and others on the same files."""

import hashlib
import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import zstandard
from environments import make_environment

from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.registry.store import elements
from lastgood.registry.store.elements import KINDS
from lastgood.registry.store.locate.by_name import Files
from lastgood.registry.storing import FileSource
from lastgood.settings import Settings

HERE: Final = Path(__file__).parent
PEERS: Final = {
    "DVC": ("dvc_store.py", ("dvc==3.67.1",)),
    "MLflow": ("mlflow_store.py", ("mlflow==3.17.2",)),
    "ZipNN": ("zipnn_store.py", ("zipnn==0.5.4", "numpy==2.4.6")),
}
ZSTD_LEVEL: Final = 3
_PEER_SECONDS: Final = 600
File = tuple[str, Path]  # the model it belongs to, and where it is


def weigh_ours(files: Sequence[File], folder: Path) -> int:
    """Register each file as a version; give the bytes of all that the registry wrote, its catalogue included."""
    settings = Settings(project=folder, home=folder / "home")
    with Registry.open(settings, writer="benchmark") as registry:
        for model, file in files:
            entry = FileEntry("model.onnx", file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
            registry.register(model, Content((entry,), (), (), None), {"model.onnx": file}, Record("benchmark", "size"), actor="benchmark")
        if not (report := registry.verify()).ok:
            raise SystemExit(f"{report.problems[0]}")
    return sum(path.stat().st_size for path in (folder / "home" / "registry").rglob("*") if path.is_file())


def weigh_zstd(files: Sequence[File], _: Path) -> int:
    """Compress each file by itself."""
    packer = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    return sum(len(packer.compress(file.read_bytes())) for _, file in files)


def weigh_git_lfs(files: Sequence[File], folder: Path) -> int:
    """Commit each file under git-lfs."""
    return _run(sys.executable, "git_lfs_store.py", files, folder)


def list_peers() -> dict[str, Callable[[Sequence[File], Path], int]]:
    """Give what measures each peer, installing it when it is called."""
    found: dict[str, Callable[[Sequence[File], Path], int]] = {f"zstd -{ZSTD_LEVEL}": weigh_zstd}
    if shutil.which("git-lfs"):
        found["git-lfs"] = weigh_git_lfs

    def weigh(name: str) -> Callable[[Sequence[File], Path], int]:
        script, requirements = PEERS[name]
        return lambda files, folder: _run(str(make_environment(name.lower(), requirements)), script, files, folder)

    return found | {name: weigh(name) for name in PEERS}


def compare_differences(files: Sequence[Path]) -> tuple[int, int]:
    """Give the bytes of every tensor as a difference to the file before: as ordered integers, and by XOR."""
    differences = xors = 0
    kind = KINDS["F32"]
    for before, after in itertools.pairwise(files):
        old, new = dict(_read_tensors(before)), dict(_read_tensors(after))
        for name in old.keys() & new.keys():
            if len(old[name]) == len(new[name]) and old[name] != new[name]:
                differences += len(elements.encode_difference(new[name], old[name], kind))
                xors += len(elements.encode_xor(new[name], old[name], kind))
    return differences, xors


def _read_tensors(file: Path) -> Iterator[tuple[str, bytes]]:
    with file.open("rb") as source:
        own = FileSource(source)
        for tensor in Files({"model.onnx": own}).locate("model.onnx"):
            if tensor.dtype == "F32":
                yield tensor.name, own.read_at(tensor.offset, tensor.nbytes)


def _run(python: str, script: str, files: Sequence[File], folder: Path) -> int:
    command = [python, str(HERE / "peers" / script), str(folder / "peer"), *(str(file) for _, file in files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PEER_SECONDS, cwd=folder)
    if done.returncode:
        raise SystemExit(f"{script} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return int(done.stdout.split()[-1])
