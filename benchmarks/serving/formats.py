"""The same numbers as each server wants them, and where its answer has them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_LENGTH = "Inference-Header-Content-Length"
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Body:
    """What is sent, in either direction."""

    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True)
class Format:
    """How a server is asked; rows are "1 …" float64 of four decimals."""

    write: Callable[[Array], Body]
    read: Callable[[Body], Any]  # gives numbers in the answer's order


def write_tensor(row: Array) -> dict[str, Any]:
    """Give an input of the Open Inference Protocol."""
    return {"name": "x", "datatype": "FP32", "shape": list(row.shape), "data": row.ravel().tolist()}


def _write_json(value: Any) -> Body:
    return Body({"Content-Type": "application/json"}, json.dumps(value, separators=(",", ":")).encode())


def _write_binary(row: Array) -> Body:
    raw = row.astype("<f4").tobytes()
    given = {"name": "x", "datatype": "FP32", "shape": list(row.shape), "parameters": {"binary_data_size": len(raw)}}
    head = _write_json({"inputs": [given], "parameters": {"binary_data_output": True}}).data
    return Body({"Content-Type": "application/octet-stream", _LENGTH: str(len(head))}, head + raw)


def _read_binary(body: Body) -> Any:
    length = next((int(value) for name, value in body.headers.items() if name.lower() == _LENGTH.lower()), None)
    if length is None:
        return PROTOCOL.read(body)
    size = json.loads(body.data[:length])["outputs"][0]["parameters"]["binary_data_size"]
    return np.frombuffer(body.data[length : length + size], "<f4")


NAMED = Format(lambda row: _write_json({"x": row.tolist()}), lambda body: json.loads(body.data)["y"])
BARE = Format(lambda row: _write_json({"x": row.tolist()}), lambda body: json.loads(body.data))
INSTANCES = Format(lambda row: _write_json({"instances": row.tolist()}), lambda body: json.loads(body.data)["predictions"])
PROTOCOL = Format(lambda row: _write_json({"inputs": [write_tensor(row)]}), lambda body: json.loads(body.data)["outputs"][0]["data"])
# The protocol's binary extension. Source: Triton, "Binary tensor data extension".
BINARY = Format(_write_binary, _read_binary)
