"""
An image as the tensor that a model with one image input takes.

Values are scaled as in the images that this project's own pipelines train on: 0 is black and 1 is white for floating-point
inputs, 0 to 255 for UINT8. Nothing is inverted, centred or cropped. Where the model wants another height and width the image is
resized: shrunk by averaging areas, as the 8 by 8 digits were made from scans, enlarged bilinearly.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lastgood.errors import UsageError
from lastgood.serving.client.answer import Array
from lastgood.tensors import DATATYPES, TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

PIXELS: Final = 50_000_000
_CHANNELS: Final = {1: "L", 3: "RGB"}  # how Pillow calls them
_DEEP: Final = ("I", "F")  # how the modes of more than 8 bits per channel begin


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an input has batch, channels, height and width: one letter (b, c, h, w) for each axis, and its size, -1 for any."""

    axes: str
    sizes: tuple[int, ...]

    def size(self, axis: str) -> int:
        """Give an axis' size; an image without an axis of channels is gray."""
        return self.sizes[self.axes.index(axis)] if axis in self.axes else 1


def find_layout(spec: TensorSpec) -> Layout:
    """
    Say how an input holds an image.

    Raises:
        UsageError: It holds none, or the sizes allow two readings.
    """
    sizes = spec.shape
    batch = len(sizes) > 0 and sizes[0] in {-1, 1}
    found = []
    if len(sizes) == 4 and batch:
        found = [axes for axes in ("bchw", "bhwc") if sizes[axes.index("c")] in _CHANNELS]
    elif len(sizes) == 3:
        found = [axes for axes in ("chw", "hwc") if sizes[axes.index("c")] in _CHANNELS]
        if not found and batch:
            found = ["bhw"]
    if len(found) != 1:
        why = "could have its channels first or last" if found else "is no image"
        raise UsageError(
            f"Input {spec.name!r} ({spec.datatype} {list(sizes)}) {why}; expected height and width beside 1 or 3 channels, first or last. "
            "Send an .npz."
        )
    if spec.datatype != "UINT8" and DATATYPES[spec.datatype].kind != "f":
        raise UsageError(f"Input {spec.name!r} is {spec.datatype}, for which the scale of pixels is not known. Send an .npz.")
    return Layout(found[0], sizes)


def read_image(path: Path, spec: TensorSpec) -> tuple[Array, tuple[str, ...]]:
    """
    Read an image as a model's input.

    Args:
        path: A PNG or JPEG file with 8 bits per channel, of one frame and no transparent pixels.
        spec: The input.

    Returns:
        The tensor, and what was done that its owner may not expect, a sentence each.

    Raises:
        UsageError: The file is no such image, or the input no image's; or Pillow is not installed.
    """
    layout = find_layout(spec)
    image = _open(path)
    mode = _CHANNELS[layout.size("c")]
    notes = []
    if mode == "L" and image.mode not in {"1", "L"}:
        notes.append(f"{path.name} has colours; the model takes shades of gray.")
    image = image.convert(mode)
    width, height = image.size
    wanted = tuple(own if size < 0 else size for own, size in ((width, layout.size("w")), (height, layout.size("h"))))
    if 0 in wanted:
        raise UsageError(f"Input {spec.name!r} has the shape {list(spec.shape)}, which holds no pixel.")
    if wanted != (width, height):
        image = _resize(image, wanted)
        bent = "" if width * wanted[1] == height * wanted[0] else ", which changes its proportions"
        notes.append(f"{path.name} is {width} by {height} pixels; it was resized to {wanted[0]} by {wanted[1]}{bent}.")
    return _arrange(image, layout, DATATYPES[spec.datatype]), tuple(notes)


def _arrange(image: "Image", layout: Layout, dtype: np.dtype[Any]) -> Array:
    pixels: Array = np.asarray(image)
    if dtype.kind == "f":
        pixels = (pixels.astype(np.float32) / 255).astype(dtype)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if "c" not in layout.axes:
        pixels = pixels[..., 0]
    elif layout.axes.endswith("chw"):
        pixels = pixels.transpose(2, 0, 1)
    return pixels[np.newaxis] if layout.axes.startswith("b") else pixels


def _open(path: Path) -> "Image":
    """Decode a file, turned as its camera says, and refuse what would be read as something that nobody sees."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as exc:
        raise UsageError("Reading images needs Pillow: pip install 'lastgood[image]', or send an .npz.") from exc
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is the smaller one
            image: Image.Image = Image.open(path, formats=("PNG", "JPEG"))
        with image:
            if image.width * image.height > PIXELS:
                raise UsageError(f"{path.name} is {image.width} by {image.height} pixels; {PIXELS} are allowed.")
            if getattr(image, "n_frames", 1) > 1:
                raise UsageError(f"{path.name} is an animation; expected one image.")
            if image.mode.startswith(_DEEP):
                raise UsageError(f"{path.name} has more than 8 bits per channel ({image.mode}); convert it first, or send an .npz.")
            image.load()
            turned = ImageOps.exif_transpose(image)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError, EOFError) as exc:
        raise UsageError(f"{path.name} is no readable PNG or JPEG image: {exc}.") from exc
    if turned.has_transparency_data:
        turned = turned.convert("RGBA")
        if np.asarray(turned)[..., 3].min() < 255:
            raise UsageError(f"{path.name} has transparent pixels, whose colour is not known; put it on a background first.")
        turned = turned.convert("RGB")
    return turned


def _resize(image: "Image", size: tuple[int, ...]) -> "Image":
    from PIL.Image import Resampling

    (width, height), (new_width, new_height) = image.size, size
    # One direction after the other: an image may be too wide and not high enough.
    across = Resampling.BOX if new_width < width else Resampling.BILINEAR
    down = Resampling.BOX if new_height < height else Resampling.BILINEAR
    return image.resize((new_width, height), across).resize((new_width, new_height), down)
