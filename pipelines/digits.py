"""Handwritten digits, 8 by 8 pixels: a small convolutional network, tested on clean, shifted and noisy images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from lastgood.pipelines.data import Array, Data
from lastgood.pipelines.gate_settings import GateSettings
from lastgood.pipelines.pipeline import Pipeline

_EVALUATION, _VALIDATION = 540, 240  # original images of 1797; the rest trains
_COPIES = 5  # of each held-out image in each of the changed sets: 540 + 5 * 540 + 5 * 540 rows to test on
_TRAIN_COPIES = 6
_SPLIT_SEED = 20  # the split is part of the data: another seed of the training must not change what is tested


class Digits(Pipeline):
    """Which digit an image shows, 0 to 9."""

    parameters: ClassVar[Mapping[str, Any]] = {"width": 64, "epochs": 4, "batch_size": 128, "learning_rate": 2e-3}
    search: ClassVar[Sequence[Mapping[str, Any]]] = ({"width": 4}, {"width": 16}, {"width": 64})  # each four times the one before
    gate = GateSettings(accuracy_floor=0.95, set_floors={"clean": 0.97}, slice_floor=0.85)
    input_name = "image"
    # Short enough to watch: an example on a laptop has nobody else's traffic to wait for.
    rollout: ClassVar[Mapping[str, Any]] = {"step_requests": 100, "step_seconds": 2.0, "soak_requests": 300, "soak_seconds": 10.0}

    def load(self) -> Data:
        """Split the images, then change copies of each part: a held-out image is never trained on in any form."""
        from sklearn.datasets import load_digits

        source = load_digits()
        images, labels = (source.images / 16).astype(np.float32), source.target
        rng = np.random.default_rng(_SPLIT_SEED)
        order = rng.permutation(len(labels))
        held, chosen, rest = np.split(order, [_EVALUATION, _EVALUATION + _VALIDATION])

        def copies(indices: Array, change: Callable[[Array], Array], count: int) -> tuple[Array, Array]:
            return np.concatenate([change(images[indices]) for _ in range(count)])[..., None], np.tile(labels[indices], count)

        def shifted(batch: Array) -> Array:
            return _shift(batch, rng)

        def noisy(batch: Array) -> Array:
            return _add_noise(_shift(batch, rng), rng)

        return Data(
            train=_join(copies(rest, np.array, 1), copies(rest, shifted, _TRAIN_COPIES // 2), copies(rest, noisy, _TRAIN_COPIES // 2)),
            validation=_join(copies(chosen, np.array, 1), copies(chosen, shifted, _COPIES), copies(chosen, noisy, _COPIES)),
            evaluation={
                "clean": copies(held, np.array, 1),
                "shifted": copies(held, shifted, _COPIES),
                "noisy": copies(held, noisy, _COPIES),
            },
            groups={"clean": held, "shifted": np.tile(held, _COPIES), "noisy": np.tile(held, _COPIES)},
        )

    def build(self, parameters: Mapping[str, Any]) -> Any:
        """Five convolutions, the width doubled after the first two."""
        from tf_keras import Sequential, layers

        def block(width: int) -> list[Any]:
            # Momentum .99, the default, leaves the averages far behind after a few hundred steps.
            return [
                layers.Conv2D(width, 3, padding="same", use_bias=False),
                layers.BatchNormalization(momentum=0.9),
                layers.ReLU(),
            ]

        width = int(parameters["width"])
        return Sequential(
            [
                layers.Input((8, 8, 1), name=self.input_name),
                *(*block(width), *block(width), layers.MaxPooling2D()),
                *(*block(2 * width), *block(2 * width), *block(2 * width), layers.GlobalAveragePooling2D()),
                layers.Dense(10, activation="softmax"),
            ]
        )

    def slices(self, x: Array, y: Array) -> Mapping[str, Array]:
        """Each digit, and thin and bold strokes: the tenth of images with the least and the most ink."""
        ink = x.reshape(len(x), -1).mean(axis=1)
        thin, bold = np.quantile(ink, [0.1, 0.9])
        return {**{f"digit {digit}": y == digit for digit in range(10)}, "thin strokes": ink <= thin, "bold strokes": ink >= bold}


def _shift(images: Array, rng: np.random.Generator) -> Array:
    """Turn by up to 12 degrees about the middle and move by up to 0.8 pixels, each image by its own draw."""
    from scipy import ndimage

    changed = np.empty_like(images)
    middle = (np.array(images.shape[1:]) - 1) / 2
    for image, out in zip(images, changed, strict=True):
        angle = np.deg2rad(rng.uniform(-12, 12))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        ndimage.affine_transform(image, turn, middle - turn @ (middle + rng.uniform(-0.8, 0.8, 2)), output=out, order=1)
    return changed


def _add_noise(images: Array, rng: np.random.Generator) -> Array:
    """Add normal noise of standard deviation 0.12 to each pixel, kept within 0 and 1."""
    return np.clip(images + rng.normal(0, 0.12, images.shape), 0, 1).astype(np.float32)


def _join(*parts: tuple[Array, Array]) -> tuple[Array, Array]:
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
