"""
The peers: which versions, and an environment of its own for each, kept outside of the repository.

What they depend on in turn is not pinned; the versions that were installed are part of the result.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from formats import BARE, INSTANCES, NAMED, PROTOCOL, Format

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lastgood-bench"
RUNTIME = ("onnxruntime==1.31.1",)
_ASGI = ("uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0", "pydantic==2.14.4")
_NUMPY = ("numpy==2.4.6",)
_INSTALL_SECONDS = 600


@dataclass(frozen=True)
class Peer:
    """A server to compare with."""

    title: str
    script: str  # below peers/
    requirements: tuple[str, ...]
    path: str
    format: Format
    shape: str  # its processes, for the reader


PEERS = {
    "fastapi": Peer(
        "FastAPI without models (nothing is validated) + ONNX Runtime",
        "fastapi_ort.py",
        ("fastapi==0.165.0", "starlette==1.10.0", "orjson==3.13.0", *_ASGI, *_NUMPY),
        "/predict",
        NAMED,
        "one process",
    ),
    "fastapi-models": Peer(
        "FastAPI + pydantic + ONNX Runtime",
        "fastapi_models_ort.py",
        ("fastapi==0.165.0", "starlette==1.10.0", "orjson==3.13.0", *_ASGI, *_NUMPY),
        "/predict",
        NAMED,
        "one process",
    ),
    "mlserver": Peer(
        "MLServer",
        "mlserver_ort.py",
        ("mlserver==1.7.1", "fastapi==0.115.14", "orjson==3.13.0", *_ASGI, *_NUMPY),
        "/v2/models/model/infer",
        PROTOCOL,
        "one process",
    ),
    "kserve": Peer(
        "KServe SDK",
        "kserve_ort.py",
        ("kserve==0.21.0", "fastapi==0.165.0", "orjson==3.13.0", *_ASGI, *_NUMPY),
        "/v1/models/model:predict",
        INSTANCES,
        "one process",
    ),
    "litserve": Peer(
        "LitServe",
        "litserve_ort.py",
        ("litserve==0.2.19", "fastapi==0.165.0", "pyzmq", *_ASGI, *_NUMPY),
        "/predict",
        NAMED,
        "front and worker process",
    ),
    "bentoml": Peer("BentoML", "bentoml_ort.py", ("bentoml==1.4.40", *_ASGI, *_NUMPY), "/predict", BARE, "supervisor and worker process"),
    "rayserve": Peer(
        "Ray Serve",
        "rayserve_ort.py",
        ("ray[serve]==2.60.0", *_ASGI, *_NUMPY),
        "/",
        NAMED,
        "proxy, replica, controller and Ray's own processes",
    ),
    "pytriton": Peer(
        "pytriton",
        "pytriton_ort.py",
        ("nvidia-pytriton==0.7.0", "numpy==1.26.4"),
        "/v2/models/model/infer",
        PROTOCOL,
        "Triton and a Python process",
    ),
}


class NotInstalledError(Exception):
    """A peer cannot be installed here; the message says why."""


def install(name: str) -> Path:
    """
    Give the Python of a peer's environment; it is made where it is missing or has other versions.

    Raises:
        NotInstalledError: uv could not make it; nothing of it is left.
    """
    folder = CACHE / name
    wanted = "\n".join([sys.version, *RUNTIME, *PEERS[name].requirements])
    done = folder / "requirements.txt"
    python = folder / "bin" / "python"
    if done.exists() and done.read_text("utf-8") == wanted:
        return python
    uv = _find_uv()
    print(f"installing {name} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    requirements = [*RUNTIME, *PEERS[name].requirements]
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


def list_versions(name: str) -> dict[str, str]:
    """Give the versions of the packages that the table pins, as they are installed."""
    command = [*_find_uv(), "pip", "list", "--quiet", "--format", "freeze", "--python", str(CACHE / name / "bin" / "python")]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = dict(line.split("==", 1) for line in text.splitlines() if "==" in line)
    names = [wanted.partition("==")[0].partition("[")[0] for wanted in (*RUNTIME, *PEERS[name].requirements)]
    return {own: found[own] for own in names}


def _find_uv() -> list[str]:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise NotInstalledError("uv is not installed (pip install uv)")
    return [uv]
