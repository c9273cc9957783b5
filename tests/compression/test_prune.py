"""Structured pruning of Keras models, and converting them; in a process of their own, since TensorFlow starts slowly and stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lastgood.compression.tensorflow_settings import quiet_environment

PRUNE = """
import numpy as np
from tf_keras import Model, Sequential, layers
from lastgood.compression.prune import prune_filters
from lastgood.compression.recipes import RecipeDoesNotFitError
from lastgood.compression.convert import ConversionError, convert
from pathlib import Path
import sys

folder = Path(sys.argv[1])
rng = np.random.default_rng(0)
images = rng.random((64, 6, 6, 1), dtype=np.float32)

# Filters whose weights are zero are the ones to drop: without them the answers stay the same.
model = Sequential([
    layers.Input((6, 6, 1), name="image"),
    layers.Conv2D(16, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU(),
    layers.MaxPooling2D(), layers.Conv2D(32, 3, padding="same"), layers.ReLU(), layers.Flatten(),
    layers.Dense(16, activation="relu"), layers.Dense(4, activation="softmax"),
])
for layer, dead in ((model.layers[0], 8), (model.layers[4], 16), (model.layers[7], 8)):
    weights = layer.get_weights()
    chosen = rng.permutation(weights[0].shape[-1])[:dead]
    for values in weights:
        values[..., chosen] = 0
    layer.set_weights(weights)
smaller = prune_filters(model, keep=0.5)
assert [layer.get_weights()[0].shape[-1] for layer in smaller.layers if layer.name.startswith(("conv", "dense"))] == [8, 16, 8, 4]
np.testing.assert_allclose(smaller.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5)
assert smaller.count_params() < model.count_params() / 2

for name in ("a", "b"):
    convert(smaller, folder / name, input_name="image", rows=images)
assert (folder / "a").read_bytes() == (folder / "b").read_bytes()

entry = layers.Input((8,))
left = layers.Dense(8)(entry)
branched = Model(entry, layers.Dense(2, activation="softmax")(layers.Add()([left, layers.Dense(8)(entry)])))
one = Sequential([layers.Input((8,)), layers.Dense(2, activation="softmax")])
odd = Sequential([layers.Input((6, 6, 1)), layers.Conv2D(8, 3), layers.DepthwiseConv2D(3), layers.Flatten(), layers.Dense(2)])
for model, sentence in ((branched, "chains of layers"), (one, "no hidden layer"), (odd, "DepthwiseConv2D")):
    try:
        prune_filters(model, keep=0.5)
    except RecipeDoesNotFitError as exc:
        assert sentence in str(exc), exc
    else:
        raise AssertionError(f"pruned {sentence}")

sigmoid = Sequential([layers.Input((8,)), layers.Dense(1, activation="sigmoid")])
try:
    convert(sigmoid, folder / "c", input_name="rows", rows=rng.random((8, 8), dtype=np.float32))
except ConversionError as exc:
    assert "end with a softmax" in str(exc), exc
else:
    raise AssertionError("converted a single output")
"""


@pytest.mark.slow
def test_pruning_drops_the_weakest_filters_and_keeps_the_answers_of_the_rest(tmp_path: Path) -> None:
    """
    Dead filters go without a change of the answers, through BatchNorm and Flatten; branches and unknown layers are refused.

    The pruned model converts to the same bytes twice, and a single sigmoid output is refused with advice.
    """
    done = subprocess.run(
        [sys.executable, "-c", PRUNE, str(tmp_path)], env={**os.environ, **quiet_environment()}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
