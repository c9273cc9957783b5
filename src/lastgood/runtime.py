"""
ONNX Runtime as it serves: one place for session settings and timing.

Compression measures, the gate tests and the replica serves with `open_session`, so that a latency measured
before a release is the latency of the release.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from lastgood.errors import ConfigurationError, LastgoodError
from lastgood.tensors import TensorSpec

PROVIDERS: Final[Mapping[str, str]] = {
    "cpu": "CPUExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_DATATYPE_OF_ORT = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class UnsupportedModelError(LastgoodError):
    """ONNX Runtime cannot load the file, or it takes or gives something that is no tensor."""

    code = "runtime.unsupported-model"
    exit_code = 2


class ProviderMissingError(ConfigurationError):
    """None of the execution providers that were asked for can be used here."""

    code = "runtime.provider-missing"


@dataclass(frozen=True, slots=True)
class Latency:
    """Quantiles of one call's duration, in seconds, and how many rows each call had."""

    p50_seconds: float
    p95_seconds: float
    p99_seconds: float
    rows: int
    calls: int


def choose_providers(wanted: Sequence[str]) -> list[str]:
    """
    Give those of the providers that the installed ONNX Runtime was built with, by its own names, best first.

    Args:
        wanted: Short names, keys of `PROVIDERS`, best first.

    Raises:
        ProviderMissingError: It has none of them.
    """
    available = ort.get_available_providers()
    chosen = [PROVIDERS[name] for name in wanted if PROVIDERS[name] in available]
    if not chosen:
        known = [name for name, own in PROVIDERS.items() if own in available]
        raise ProviderMissingError(
            f"providers = {list(wanted)}: the installed ONNX Runtime {ort.__version__} has none of them, it has {known}. "
            "Install the build of onnxruntime that has one, or list one of these after it to fall back to."
        )
    return chosen


def name_provider(session: ort.InferenceSession) -> str:
    """Give the short name of the provider that a session puts first; what it cannot compute falls to the CPU."""
    used = session.get_providers()[0]
    return next((name for name, own in PROVIDERS.items() if own == used), used)


def open_session(model: bytes | Path, *, threads: int = 1, providers: Sequence[str] = ("cpu",)) -> ort.InferenceSession:
    """
    Load an ONNX model with the settings it is served with.

    Args:
        model: The file's bytes, or its path where external data lies beside it.
        threads: Threads inside one operator; replicas, not threads, use the other cores.
        providers: Short names of execution providers, best first; the first one that works is used.

    Raises:
        UnsupportedModelError: ONNX Runtime refuses the model.
        ProviderMissingError: No provider of the list is there, or none of them works on this machine.
    """
    chosen = choose_providers(providers)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # What a run raises is raised; printed as well, it would let a client fill the log.
    options.log_severity_level = 4
    # A thread that spins between calls takes the core the gateway needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = ort.InferenceSession(source, options, providers=chosen)
    except Exception as exc:  # ONNX Runtime's errors share no public base class
        raise UnsupportedModelError(f"ONNX Runtime {ort.__version__} cannot load the model: {exc}") from exc
    # A provider whose libraries or device are missing is passed over without an error, and the CPU takes its place unasked.
    if session.get_providers()[0] not in chosen:
        raise ProviderMissingError(
            f"providers = {list(providers)}: ONNX Runtime {ort.__version__} could start none of them on this machine and fell back to "
            f"{name_provider(session)}. Install what it needs, or list {name_provider(session)!r} too if that is good enough."
        )
    return session


def read_signature(session: ort.InferenceSession) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """
    Give the inputs and outputs of a loaded model, symbolic sizes as -1.

    Raises:
        UnsupportedModelError: One is a sequence, a map, or of a type the protocol has no name for.
    """
    return tuple(map(_spec, session.get_inputs())), tuple(map(_spec, session.get_outputs()))


def _spec(arg: Any) -> TensorSpec:
    datatype = _DATATYPE_OF_ORT.get(arg.type)
    if datatype is None:
        raise UnsupportedModelError(f"{arg.name!r} is of type {arg.type}; expected one of {', '.join(_DATATYPE_OF_ORT)}.")
    return TensorSpec(arg.name, datatype, tuple(size if isinstance(size, int) and size >= 0 else -1 for size in arg.shape))


def measure_latency(
    session: ort.InferenceSession, feeds: Mapping[str, np.ndarray[Any, Any]], *, seconds: float = 0.5, warm_up: int = 20
) -> Latency:
    """
    Time whole calls of ``session.run`` on this host.

    Args:
        session: From `open_session`.
        feeds: "batch …" arrays by graph input name; the first axis of the first one is counted as rows.
        seconds: For how long to measure, after the warm-up; at least 50 calls are made however slow they are.
        warm_up: Calls that are not measured.
    """
    for _ in range(warm_up):
        session.run(None, feeds)
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while len(durations) < 50 or time.perf_counter() < end:
        start = time.perf_counter()
        session.run(None, feeds)
        durations.append(time.perf_counter() - start)
    p50, p95, p99 = np.quantile(durations, [0.5, 0.95, 0.99])
    first = next(iter(feeds.values()))
    return Latency(float(p50), float(p95), float(p99), first.shape[0] if first.ndim else 1, len(durations))
