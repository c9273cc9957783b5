"""Which parts of an input are looked at as one: features, runs of features, patches of an image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

PARTS_MAX: Final = 64
_PATCHES_MAX: Final = 6  # along each side of an image
_PATCH_MIN: Final = 2  # pixels: one alone is hardly ever what an answer leans on
_CHANNELS: Final = {1, 3, 4}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of every row: its name, such as ``image[0:2,4:6]``, and where it is in a row."""

    name: str
    place: tuple[slice, ...]


def find_image_axes(shape: Sequence[int]) -> tuple[int, int] | None:
    """
    Give the axes of a row that are an image's height and width; None where it is none.

    Two axes are one, and three of which the last or the first is of channels: 1, 3 or 4 long. Where both could be, the
    shorter one is.
    """
    if len(shape) == 2:
        return 0, 1
    if len(shape) != 3:
        return None
    channels = min((axis for axis in (2, 0) if shape[axis] in _CHANNELS), key=lambda axis: shape[axis], default=None)
    return None if channels is None else (0, 1) if channels == 2 else (1, 2)


def list_parts(name: str, shape: Sequence[int]) -> list[Part]:
    """
    Give the parts that a row is cut into, `PARTS_MAX` at most.

    Args:
        name: Of the input.
        shape: Of one row.
    """
    axes = find_image_axes(shape)
    if axes is not None:
        cuts = [list(_cut(shape[axis], max(_PATCH_MIN, -(-shape[axis] // _PATCHES_MAX)))) for axis in axes]
        placed = [dict(zip(axes, pair, strict=True)) for pair in product(*cuts)]
    else:  # neighbours along the longest axis
        longest = max(range(len(shape)), key=lambda axis: shape[axis])
        placed = [{longest: own} for own in _cut(shape[longest], -(-shape[longest] // PARTS_MAX))]
    return [
        Part(
            f"{name}[{','.join(_show(own) for own in place.values())}]",
            tuple(place.get(axis, slice(None)) for axis in range(len(shape))),
        )
        for place in placed
    ]


def _cut(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


def _show(own: slice) -> str:
    return str(own.start) if own.stop - own.start == 1 else f"{own.start}:{own.stop}"
