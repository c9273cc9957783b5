"""
What a step's result depends on, as a cache key; and how a run takes over what an earlier one made.

The key of training: the pipeline's file, lastgood's own training code, the data's fingerprint, parameters, seed, and the
libraries' versions. Compression adds the gate's constraints and the host, whose latency it measures.
"""

import hashlib
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import rfc8785

import lastgood
from lastgood.pipelines.run import Run
from lastgood.pipelines.update import describe_update

_CODE: Final = ("pipelines", "compression", "runtime.py")  # below the lastgood package
# What each step leaves in the run folder.
OUTPUTS: Final[Mapping[str, tuple[str, ...]]] = {"train": ("train", "evaluation", "train.json"), "compress": ("compress", "compress.json")}


def train_key(run: Run, data: str) -> str:
    """Give the cache key of the run's training; ``data`` is the fingerprint of its rows."""
    facts = run.facts
    return _hash(
        {
            "step": "train",
            "code": _hash_code(),
            "pipeline": hashlib.sha256(run.found.file.read_bytes()).hexdigest(),
            "data": data,
            "parameters": facts.parameters,
            "seed": str(facts.seed),
            "libraries": facts.libraries,
            "update": describe_update(run),
        }
    )


def compress_key(run: Run, trained: str) -> str:
    """Give the cache key of the run's compression; ``trained`` is the key of its training."""
    gate = run.gate_settings.model_dump(mode="json")
    return _hash({"step": "compress", "trained": trained, "gate": gate, "host": [platform.machine(), platform.node(), _processor()]})


def take_over(run: Run, step: str, source: Path) -> bool:
    """Copy a step's results from another run's folder; give False where they are not there any more."""
    parts = [source / name for name in OUTPUTS[step]]
    if not all(part.exists() for part in parts):
        return False
    for part in parts:
        target = run.folder / part.name
        if part.is_dir():
            shutil.copytree(part, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(part, target)
    return True


def _hash(value: object) -> str:
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()  # type: ignore[arg-type]


def _hash_code() -> str:
    package = Path(lastgood.__file__).parent
    code = hashlib.sha256()
    for name in _CODE:
        root = package / name
        files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
        for file in files:
            code.update(f"{file.relative_to(package)}\0".encode())
            code.update(file.read_bytes())
    return code.hexdigest()


def _processor() -> str:
    """Name the processor; Linux's platform module does not."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = {line.partition(":")[2].strip() for line in cpuinfo.read_text("utf-8").splitlines() if line.startswith("model name")}
        return ", ".join(sorted(names))
    return platform.processor()
