"""Versions made of any files, for the tests that compare them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.tensors import TensorSpec

Arrays = Mapping[str, np.ndarray[Any, Any]]
DTYPES = {
    "float32": "F32",
    "float64": "F64",
    "float16": "F16",
    "int8": "I8",
    "uint8": "U8",
    "int64": "I64",
    "bool": "BOOL",
    "uint16": "BF16",
}


def add_version(registry: Registry, folder: Path, files: Mapping[str, bytes], *, model: str = "digits", **said: Any) -> Version:
    """Register these bytes; where there is no model among them, an empty one is added."""
    named = said.pop("named", "model.onnx")
    held = {named: make_onnx({}), **files}
    place = folder / hashlib.sha256(repr(sorted(held.items())).encode()).hexdigest()[:12]
    paths, entries = {}, []
    for name, data in sorted(held.items()):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        paths[name] = path
        entries.append(FileEntry(name, len(data), hashlib.sha256(data).hexdigest()))
    spec = TensorSpec("x", "FP32", (-1, 4))
    content = Content(tuple(entries), (spec,), (spec,), 0, model=named)
    return registry.register(model, content, paths, Record(author="ada", why="because", **said), actor="ada")


def make_onnx(arrays: Arrays, nodes: Any = (), *, opset: int = 17, **more: Any) -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()] + list(more.pop("protos", ()))
    graph = helper.make_graph(list(nodes), "graph", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9, **more)
    data: bytes = model.SerializeToString()
    return data


def make_safetensors(arrays: Arrays) -> bytes:
    """Arrays of uint16 are written as brain floats."""
    header: dict[str, Any] = {}
    offset = 0
    for name, array in arrays.items():
        header[name] = {"dtype": DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in arrays.values())


def save_external(arrays: Arrays, folder: Path) -> dict[str, bytes]:
    """Give a model with its tensors in a file beside it, by path."""
    folder.mkdir(parents=True)
    onnx.save(
        onnx.load_from_string(make_onnx(arrays)),
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    return {path.name: path.read_bytes() for path in folder.iterdir()}
