"""Structured pruning: drop whole filters and hidden units, so that what is left is a smaller dense model."""

import itertools
from typing import Any

import numpy as np

from lastgood.compression.recipes import RecipeDoesNotFitError

Array = np.ndarray[Any, Any]

# Layers that treat every channel alike, so that the kept channels pass through unchanged.
_CHANNELWISE = frozenset(
    {
        *("Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "Dropout", "GaussianNoise", "GaussianDropout", "InputLayer", "Rescaling"),
        *("MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "ZeroPadding2D", "UpSampling2D"),
        *("SpatialDropout2D", "ActivityRegularization"),
    }
)
_MULTIPLE = 8  # kernels of int8 and float32 work on vectors of this many channels; an odd width gains nothing


def prune_filters(model: Any, *, keep: float) -> Any:
    """
    Give a smaller copy of a Keras model, with the filters and hidden units of the smallest L1 norm left out.

    The last layer with weights keeps all its outputs: they are the classes. The copy must be fine-tuned before it is
    judged; before that it may answer at chance.

    Args:
        model: tf_keras model whose layers form one chain of Dense, Conv2D, BatchNormalization, Flatten and
            layers that treat channels alike.
        keep: Share to keep of each layer, above 0, at most 1; rounded up to a multiple of 8 channels.

    Raises:
        RecipeDoesNotFitError: A branch, or a layer whose channels cannot be told apart.

    Source: Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", 2017, section 3.1.
    """
    import tf_keras

    layers = _chain(model)
    weighted = [layer for layer in layers if type(layer).__name__ in {"Conv2D", "Dense"}]
    if len(weighted) < 2:
        raise RecipeDoesNotFitError("there is no hidden layer to prune")
    smaller = tf_keras.Sequential([tf_keras.layers.Input(model.inputs[0].shape[1:], name=model.inputs[0].name)], name=model.name)
    kept: Array | None = None  # indices of the channels that the layers so far kept; None: all
    for layer in layers:
        if type(layer).__name__ == "InputLayer":
            continue
        config, weights, kept = _shrink(layer, kept, 1.0 if layer is weighted[-1] else keep)
        copy = type(layer).from_config(config)
        smaller.add(copy)
        copy.set_weights(weights)
    return smaller


def _chain(model: Any) -> list[Any]:
    layers = list(model.layers)
    for before, layer in itertools.pairwise(layers):
        nodes = layer.inbound_nodes
        if len(nodes) != 1 or nodes[0].inbound_layers is not before:
            raise RecipeDoesNotFitError(f"layer {layer.name!r} does not follow {before.name!r} alone: only chains of layers are pruned")
    return layers


def _shrink(layer: Any, kept: Array | None, keep: float) -> tuple[dict[str, Any], list[Array], Array | None]:
    """Give a layer's new config, its new weights, and the channels that leave it."""
    config, weights, name = layer.get_config(), layer.get_weights(), type(layer).__name__
    if config.get("data_format", "channels_last") != "channels_last" or config.get("groups", 1) != 1:
        raise RecipeDoesNotFitError(f"layer {layer.name!r} is grouped or has channels first")
    if name in {"Conv2D", "Dense"}:
        kernel = weights[0] if kept is None else np.take(weights[0], kept, axis=-2)
        leaving = _strongest(kernel, keep)
        config["filters" if name == "Conv2D" else "units"] = len(leaving)
        return config, [kernel[..., leaving], *(bias[leaving] for bias in weights[1:])], leaving
    if name == "BatchNormalization":
        return config, weights if kept is None else [values[kept] for values in weights], kept
    if name == "Flatten":
        return config, weights, None if kept is None else _flat(kept, layer.input_shape[1:])
    if name in _CHANNELWISE:
        return config, weights, kept
    raise RecipeDoesNotFitError(f"layer {layer.name!r} is a {name}, whose channels cannot be told apart")


def _strongest(kernel: Array, keep: float) -> Array:
    width = kernel.shape[-1]
    count = min(width, -(-max(1, round(width * keep)) // _MULTIPLE) * _MULTIPLE)
    norms = np.abs(kernel).sum(axis=tuple(range(kernel.ndim - 1)))
    # A stable sort: equal norms must give the same model on every run.
    return np.sort(np.argsort(-norms, kind="stable")[:count])


def _flat(kept: Array, shape: tuple[int, ...]) -> Array:
    channels = shape[-1]
    positions = np.arange(int(np.prod(shape[:-1], dtype=np.int64)))
    return np.asarray((positions[:, None] * channels + kept[None, :]).reshape(-1))
