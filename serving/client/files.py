"""
Files as inputs of a model: arrays (.npz), JSON, or one image (.png, .jpg).

What a file says of its own size is checked before it is unpacked, and nothing in it is executed or unpickled.
"""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from lastgood.errors import UsageError
from lastgood.serving.client.answer import Array
from lastgood.serving.client.conversions import convert
from lastgood.serving.client.images import read_image
from lastgood.tensors import TensorSpec

FILE_BYTES: Final = 64 * 1024 * 1024  # of a file, and of what a packed one unpacks to; the gateway itself takes less
ARRAYS: Final = ".npz"
IMAGES: Final = (".png", ".jpg", ".jpeg")
KINDS: Final = (ARRAYS, ".json", *IMAGES)
_BROKEN: Final = (OSError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class Question:
    """
    What a file asks.

    Attributes:
        inputs: Arrays by input name, of the model's types.
        request: A whole request of the protocol instead, to be sent as it is.
        notes: What was done to the file's content that its owner may not expect, a sentence each.
    """

    inputs: Mapping[str, Array]
    request: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


def check_file(path: Path) -> None:
    """
    Look whether a file can be a question at all, before anybody is asked what the model takes.

    Raises:
        UsageError: It is not there, of another kind, or too large.
    """
    if path.suffix.lower() not in KINDS:
        raise UsageError(f"{path.name} ends with {path.suffix!r}; expected one of: {', '.join(KINDS)}.")
    try:
        if not path.is_file():
            raise UsageError(f"There is no file {path}.")
        size = path.stat().st_size
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror}.") from exc
    if size > FILE_BYTES:
        raise UsageError(f"{path.name} has {size} bytes; {FILE_BYTES} are allowed. Ask for fewer rows at once.")


def read_file(path: Path, specs: Sequence[TensorSpec]) -> Question:
    """
    Read a question for a model.

    Args:
        path: The file; `check_file` has let it pass.
        specs: What the model takes.

    Raises:
        UsageError: The file is damaged or does not fit the model; says what was expected.
    """
    suffix = path.suffix.lower()
    if suffix in IMAGES:
        if len(specs) != 1:
            raise UsageError(f"{path.name} is one image, and the model takes {_list(specs)}. Send an {ARRAYS} with an array for each.")
        array, notes = read_image(path, specs[0])
        return Question({specs[0].name: array}, notes=notes)
    if suffix == ARRAYS:
        return _fit(path, _read_arrays(path, specs), specs)
    value = _read_json(path)
    if _is_request(value):
        return Question({}, request=value)
    if isinstance(value, dict):
        return _fit(path, value, specs)
    if isinstance(value, list) and len(specs) == 1:
        return _fit(path, {specs[0].name: value}, specs)
    raise UsageError(f"{path.name} holds a {type(value).__name__}; expected an object with lists for {_list(specs)}, or a whole request.")


def _read_arrays(path: Path, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            whole = sum(entry.file_size for entry in archive.infolist())
        if whole > FILE_BYTES:
            raise UsageError(f"{path.name} unpacks to {whole} bytes; {FILE_BYTES} are allowed. Ask for fewer rows at once.")
        with np.load(path, allow_pickle=False) as arrays:
            found: dict[str, Array] = {name: arrays[name] for name in arrays.files}
    except _BROKEN as exc:
        raise UsageError(f"{path} is no readable {ARRAYS} of plain arrays: {exc}. Write one with numpy.savez.") from exc
    if any(not isinstance(array, np.ndarray) for array in found.values()):
        raise UsageError(f"{path.name} holds files that are no arrays; expected what numpy.savez writes.")
    if len(found) == len(specs) == 1:
        return {specs[0].name: next(iter(found.values()))}
    return found


def _read_json(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UsageError(f"{path} is no readable JSON: {exc}. NaN and infinity are not JSON; an {ARRAYS} can hold them.") from exc


def _is_request(value: Any) -> bool:
    """Say whether this is a request of the protocol, and not inputs of which one is called ``inputs``."""
    tensors = value.get("inputs") if isinstance(value, dict) else None
    return isinstance(tensors, list) and bool(tensors) and all(isinstance(tensor, dict) and "name" in tensor for tensor in tensors)


def _fit(path: Path, given: Mapping[str, Any], specs: Sequence[TensorSpec]) -> Question:
    names = {spec.name for spec in specs}
    if given.keys() != names:
        raise UsageError(f"{path.name} has {', '.join(map(repr, given)) or 'nothing'}; the model takes {_list(specs)}.")
    inputs, notes = {}, []
    for spec in specs:
        array = convert(given[spec.name], spec)
        if array.ndim == len(spec.shape) - 1 and spec.shape[0] in {-1, 1}:
            array = array[np.newaxis]
            notes.append(f"{spec.name} was taken as one row: it is sent as {list(array.shape)}.")
        inputs[spec.name] = array
    return Question(inputs, notes=tuple(notes))


def _list(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name!r} ({spec.datatype} {list(spec.shape)})" for spec in specs)
