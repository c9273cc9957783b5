"""The tensors of a version's file: by what the file is, or by what another file of the version says of it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

from lastgood.registry.store.layout import Source, Tensor
from lastgood.registry.store.locate import archive, hdf5, npz, onnx, safetensors, savedmodel
from lastgood.registry.store.locate.bounds import arrange, clip

_ONNX: Final = ".onnx"
_SHARD: Final = re.compile(r"(?P<stem>.+)\.data-(?P<number>\d{5})-of-\d{5}", re.DOTALL)
_MODELS_MAX: Final = 16  # read to find out whether one of them keeps tensors in a file
_HEAD_BYTES: Final = 16


def locate(name: str, source: Source, beside: Mapping[str, Source]) -> list[Tensor]:
    """
    Find the tensors of a file.

    The first bytes decide, as names lie more often. The last guess is ONNX, which has no such bytes.

    Args:
        name: The file's path in the version.
        source: The file.
        beside: The version's other files, by path.

    Returns:
        Sorted by offset, apart from each other, inside the file, each with a name of its own; none where nothing is known.
    """
    head = source.read_at(0, _HEAD_BYTES)
    is_model = name.lower().endswith(_ONNX) and onnx.is_plausible(head)
    found = _locate_by_magic(head, source) or (onnx.locate(source) if is_model else [])
    found = found or _locate_shard(name, source, beside) or _locate_external(name, source, beside)
    if found or is_model or not onnx.is_plausible(head):
        return found
    return onnx.locate(source)


def _locate_by_magic(head: bytes, source: Source) -> list[Tensor]:
    if head.startswith(hdf5.MAGIC):
        return hdf5.locate(source)
    if head.startswith(npz.MAGIC):
        return npz.locate_array(source)
    if head.startswith(archive.MAGIC):
        return npz.locate(source) or hdf5.locate_archived(source)
    if safetensors.is_safetensors(head):
        return safetensors.locate(source)
    return []


def _locate_shard(name: str, source: Source, beside: Mapping[str, Source]) -> list[Tensor]:
    """Find what a checkpoint's index beside this file says of it."""
    shard = _SHARD.fullmatch(name)
    index = beside.get(f"{shard['stem']}.index") if shard is not None else None
    if shard is None or index is None or not savedmodel.is_index(index):
        return []
    return clip(savedmodel.locate_variables(index).get(int(shard["number"]), []), source.size)


def _locate_external(name: str, source: Source, beside: Mapping[str, Source]) -> list[Tensor]:
    """Find what ONNX models in this file's folder, or above it, keep in it."""
    return arrange((tensor for path in _list_models(name, beside) for tensor in _read_external(path, beside[path], name)), source.size)


def _list_models(name: str, beside: Mapping[str, Source]) -> list[str]:
    """List the models whose folders hold the file, the nearest first."""
    folders = list(PurePosixPath(name).parents)
    models = [
        (folders.index(folder), path)
        for path in beside
        if path.lower().endswith(_ONNX) and (folder := PurePosixPath(path).parent) in folders
    ]
    return [path for _, path in sorted(models)[:_MODELS_MAX]]


def _read_external(path: str, model: Source, name: str) -> Iterator[Tensor]:
    if not onnx.is_plausible(model.read_at(0, _HEAD_BYTES)):
        return
    for location, tensors in onnx.locate_external(model).items():
        if str(PurePosixPath(path).parent / location) == name:
            yield from tensors
