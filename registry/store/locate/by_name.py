"""The tensors of a version's files: by what a file is, or by what another file of the version says of it."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from lastgood.registry.store.layout import Source, Tensor
from lastgood.registry.store.locate import archive, hdf5, npz, onnx, safetensors, savedmodel
from lastgood.registry.store.locate.bounds import arrange, clip
from lastgood.registry.store.locate.window import Limited

_ONNX: Final = ".onnx"
_SHARD: Final = re.compile(r"(?P<stem>.+)\.data-(?P<number>[0-9]{5})-of-[0-9]{5}", re.DOTALL)
_MODELS_MAX: Final = 8  # read to find out whether one of them keeps tensors in a file
_HEAD_BYTES: Final = 16


class Files:
    """
    A version's files, by path.

    Each ONNX model and each checkpoint's index is read once for all the files that it may speak of.
    """

    def __init__(self, files: Mapping[str, Source]) -> None:
        self._files = files
        self._external: dict[str, dict[str, list[Tensor]]] = {}  # by the model's path, then by the data file's
        self._variables: dict[str, dict[int, list[Tensor]]] = {}  # by the index's path

    def locate(self, name: str) -> list[Tensor]:
        """
        Find the tensors of one of the files.

        The first bytes decide, as names lie more often. The last guess is ONNX, which has no such bytes.

        Returns:
            Sorted by offset, apart from each other, inside the file, each with a name of its own; none where nothing is known.
        """
        source = Limited(self._files[name])
        head = source.read_at(0, _HEAD_BYTES)
        is_model = name.lower().endswith(_ONNX) and onnx.is_plausible(head)
        found = _locate_by_magic(head, source) or (onnx.locate(source) if is_model else [])
        found = found or self._locate_shard(name, source.size) or self._locate_external(name, source.size)
        if found or is_model or not onnx.is_plausible(head):
            return found
        return onnx.locate(source)

    def _locate_shard(self, name: str, size: int) -> list[Tensor]:
        """Find what a checkpoint's index beside a file says of it."""
        shard = _SHARD.fullmatch(name)
        path = f"{shard['stem']}.index" if shard is not None else ""
        if shard is None or path not in self._files:
            return []
        if path not in self._variables:
            index = Limited(self._files[path])
            self._variables[path] = savedmodel.locate_variables(index) if savedmodel.is_index(index) else {}
        return clip(self._variables[path].get(int(shard["number"]), []), size)

    def _locate_external(self, name: str, size: int) -> list[Tensor]:
        """Find what ONNX models in a file's folder, or above it, keep in it."""
        return arrange((tensor for path in self._list_models(name) for tensor in self._read_external(path).get(name, [])), size)

    def _list_models(self, name: str) -> list[str]:
        """List the models whose folders hold a file, first the nearest, and of those first the one that it is named after."""
        file = PurePosixPath(name)
        folders = list(file.parents)
        models = []
        for path in self._files:
            model = PurePosixPath(path)
            if path != name and path.lower().endswith(_ONNX) and model.parent in folders:
                models.append((folders.index(model.parent), not file.name.startswith(model.stem), path))
        return [path for *_, path in sorted(models)[:_MODELS_MAX]]

    def _read_external(self, path: str) -> dict[str, list[Tensor]]:
        if path not in self._external:
            model, folder = Limited(self._files[path]), PurePosixPath(path).parent
            places = onnx.locate_external(model) if onnx.is_plausible(model.read_at(0, _HEAD_BYTES)) else {}
            self._external[path] = {str(folder / location): tensors for location, tensors in places.items()}
        return self._external[path]


def locate(name: str, source: Source, beside: Mapping[str, Source]) -> list[Tensor]:
    """
    Find the tensors of a file, as `Files.locate` does.

    Args:
        name: The file's path in the version.
        source: The file.
        beside: The version's other files, by path.
    """
    return Files({**beside, name: source}).locate(name)


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
