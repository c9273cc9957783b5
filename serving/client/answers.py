"""Answers as files: an .npz that numpy reads without unpickling anything."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from lastgood.errors import UsageError
from lastgood.serving.client.answer import Array

_SUFFIX: Final = ".npz"


def check_place(path: Path) -> None:
    """
    Look whether arrays can be written there, before anybody is asked for them.

    Raises:
        UsageError: The name has another ending, there is no such folder, or it is one.
    """
    if path.suffix != _SUFFIX:
        raise UsageError(f"{path.name} ends with {path.suffix!r}; expected {_SUFFIX}.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} to write {path.name} into.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; expected the name of a file.")


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """
    Write arrays by name; the file is there whole or not at all.

    Args:
        path: Replaced if it is there.
        arrays: Texts become numpy's texts of one width, which lose nothing but NUL characters at the end.

    Raises:
        UsageError: A text ends with a NUL character.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Not numpy.savez: it takes arrays as keywords, and one of its own is called "file".
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, _without_objects(name, array), allow_pickle=False)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _without_objects(name: str, array: Array) -> Array:
    if array.dtype.kind != "O":
        return array
    if any(text.endswith("\0") for text in array.ravel()):
        raise UsageError(f"Output {name!r} holds a text that ends with a NUL character, which .npz would drop. Use --json.")
    return array.astype(np.str_)
