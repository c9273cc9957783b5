"""
A version's files, verified: nothing is loaded whose bytes do not hash to what was registered.

Every file is read once; the bytes that were hashed are the bytes that are used.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from lastgood.errors import IntegrityError
from lastgood.serving.replica.errors import FileChangedError
from lastgood.serving.replica.slots import Array
from lastgood.tensors import TensorSpec

_FORMAT = "lastgood/content/1"


@dataclass(frozen=True, slots=True)
class Golden:
    """Inputs by name, the answers the tested file gave by output name, and how far an answer may be off."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    rtol: float
    atol: float


@dataclass(frozen=True, slots=True)
class Package:
    """What a replica needs of a version: the model's path inside it and bytes, and those of the files it refers to."""

    digest: str
    path: str
    model: bytes
    beside: Mapping[str, bytes]  # by path inside the version
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batching: int | None
    golden: Golden | None
    threads: int = 1  # how it is run is the gateway's word, not the version's
    providers: tuple[str, ...] = ("cpu",)


def read_package(content: bytes, digest: str, folder: Path) -> Package:
    """
    Verify a version's content and files, and read what serving needs.

    Args:
        content: The content's canonical JSON, which must hash to ``digest``.
        digest: ``sha256:`` and 64 hex digits.
        folder: Where the files are.

    Raises:
        FileChangedError: The content or a file is missing or not what was registered; names it.
        IntegrityError: The content is of a format this program does not read.
    """
    actual = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if actual != digest:
        raise FileChangedError(f"The content registered as {digest} hashes to {actual}: it was changed. Restore it, or register it anew.")
    try:
        value = json.loads(content)
        if value["format"] != _FORMAT:
            raise IntegrityError(f"The content of {digest} is of format {value['format']!r}; this replica reads {_FORMAT!r}.")
        model: str = value["model"]
        golden = value["golden"]
        unread = {model, golden["file"] if golden else None, value["drift"]}
        files = {entry["path"]: entry for entry in value["files"]}
        inputs = tuple(map(TensorSpec.from_json, value["inputs"]))
        outputs = tuple(map(TensorSpec.from_json, value["outputs"]))
    except (ValueError, KeyError, TypeError) as exc:
        raise IntegrityError(f"The content of {digest} cannot be read: {exc!r}.") from exc

    return Package(
        digest=digest,
        path=model,
        model=read_verified(folder, files[model]),
        beside={path: read_verified(folder, entry) for path, entry in files.items() if path not in unread},
        inputs=inputs,
        outputs=outputs,
        batching=value["batching"],
        golden=None if golden is None else _read_golden(read_verified(folder, files[golden["file"]]), golden),
    )


def read_verified(folder: Path, entry: Mapping[str, Any]) -> bytes:
    """
    Read one file and give its bytes if they are the registered ones.

    Raises:
        FileChangedError: It is missing, or of another size or SHA-256.
    """
    path: Path = folder / entry["path"]
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise FileChangedError(f"{entry['path']!r} cannot be read from {folder}: {exc.strerror}. Fetch the version again.") from exc
    actual = hashlib.sha256(data).hexdigest()
    if len(data) != entry["size"] or actual != entry["sha256"]:
        raise FileChangedError(
            f"{entry['path']!r} has {len(data)} bytes and SHA-256 {actual}; registered were {entry['size']} bytes and {entry['sha256']}. "
            "It was changed after it was registered; it is not served."
        )
    return data


def _read_golden(data: bytes, entry: Mapping[str, Any]) -> Golden:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            named = {name: _as_tensor(arrays[name]) for name in arrays.files}
    except (ValueError, OSError, BadZipFile) as exc:
        raise IntegrityError(f"{entry['file']!r} is no NPZ file of plain arrays: {exc}.") from exc
    inputs = {name.removeprefix("in/"): array for name, array in named.items() if name.startswith("in/")}
    outputs = {name.removeprefix("out/"): array for name, array in named.items() if name.startswith("out/")}
    if not inputs or not outputs:
        raise IntegrityError(f"{entry['file']!r} holds {sorted(named)}; expected arrays named in/NAME and out/NAME.")
    return Golden(inputs, outputs, float(entry["rtol"]), float(entry["atol"]))


def _as_tensor(array: Array) -> Array:
    # NPZ without pickle keeps texts at a fixed width; ONNX Runtime takes objects.
    return array.astype(object) if array.dtype.kind in "US" else array
