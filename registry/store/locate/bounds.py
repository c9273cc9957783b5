"""What holds for tensors however they were found: inside the file, apart from each other, each with a name of its own."""

import math
from collections.abc import Iterable
from typing import Final

from lastgood.registry.store.layout import ITEM_BYTES, TENSORS_MAX, Tensor
from lastgood.registry.store.locate.window import UnreadableError

RANK_MAX: Final = 64  # as numpy's
NAME_CHARS_MAX: Final = 1024
_UNNAMED: Final = "unnamed"


def arrange(found: Iterable[Tensor], size: int | None) -> list[Tensor]:
    """
    Make a sound list of what a locator found.

    Left out is what is empty, has not the size of its shape, does not lie in the file, or begins inside a tensor before
    it; of two that begin at one place the longer stays. A name that occurs again, in the order of the file, gets ``#2``,
    ``#3``…; a name is the tensor's first `NAME_CHARS_MAX` characters.

    Args:
        found: In any order. May end in `UnreadableError`, and what came before it counts.
        size: The file's bytes; None where the file is not known yet, and `clip` must follow.

    Returns:
        Sorted by offset; empty where more than `TENSORS_MAX` were found.
    """
    sound: list[Tensor] = []
    try:
        for tensor in found:
            if not _is_sound(tensor, size):
                continue
            sound.append(tensor)
            if len(sound) > TENSORS_MAX:
                return []
    except UnreadableError:
        pass  # it ends here; the tensors before it are where they are
    sound.sort(key=lambda tensor: (tensor.offset, -tensor.nbytes, tensor.name))
    return _name_apart(_keep_apart(sound))


def clip(tensors: Iterable[Tensor], size: int) -> list[Tensor]:
    """Give those tensors of an arranged list that lie whole in a file of so many bytes."""
    return [tensor for tensor in tensors if tensor.offset + tensor.nbytes <= size]


def count_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Give a tensor's bytes; 0 where the type is none of `ITEM_BYTES` or the shape none that is taken."""
    if dtype not in ITEM_BYTES or len(shape) > RANK_MAX or any(length < 0 for length in shape):
        return 0
    return math.prod(shape) * ITEM_BYTES[dtype]


def shift(tensors: Iterable[Tensor], offset: int) -> list[Tensor]:
    """Give the tensors of a part as those of the file that the part begins in, so many bytes from its begin."""
    return [Tensor(tensor.name, tensor.dtype, tensor.shape, tensor.offset + offset, tensor.nbytes) for tensor in tensors]


def _is_sound(tensor: Tensor, size: int | None) -> bool:
    if tensor.offset < 0 or tensor.nbytes <= 0 or tensor.nbytes != count_bytes(tensor.dtype, tensor.shape):
        return False
    return size is None or tensor.offset + tensor.nbytes <= size


def _keep_apart(tensors: Iterable[Tensor]) -> list[Tensor]:
    apart: list[Tensor] = []
    end = 0
    for tensor in tensors:
        if tensor.offset >= end:
            apart.append(tensor)
            end = tensor.offset + tensor.nbytes
    return apart


def _name_apart(tensors: list[Tensor]) -> list[Tensor]:
    taken: set[str] = set()
    counts: dict[str, int] = {}
    named = []
    for tensor in tensors:
        # Lone surrogates, which JSON can spell, could not be written down again.
        name = stem = (tensor.name[:NAME_CHARS_MAX] or _UNNAMED).encode(errors="replace").decode()
        while name in taken:
            counts[stem] = counts.get(stem, 1) + 1
            name = f"{stem}#{counts[stem]}"
        taken.add(name)
        named.append(Tensor(name, tensor.dtype, tensor.shape, tensor.offset, tensor.nbytes))
    return named
