"""
The peers: which versions, and an environment of its own for each.

What they depend on in turn is not pinned; the versions that were installed are part of the result.
"""

from dataclasses import dataclass

from formats import BARE, INSTANCES, NAMED, PROTOCOL, Format

RUNTIME = ("onnxruntime==1.31.1",)
_ASGI = ("uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0", "pydantic==2.14.4")
_NUMPY = ("numpy==2.4.6",)


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
