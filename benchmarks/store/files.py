"""
Trains the models whose files are stored, as teams do, and writes them as ONNX; run in a process of its own.

    python benchmarks/store/files.py FOLDER [--versions 10] [--heads 20]

A CNN of 1.26 million float32 parameters on scikit-learn's digits: fitted, then trained for one more epoch for each version at a learning
rate of 1e-4 and of 1e-5; and its last layer alone fitted again and again, each time with an int8 file beside.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
RATES: Final = ("1e-4", "1e-5")
HEADS: Final = "heads"
FIRST_EPOCHS: Final = 8
CALIBRATION_ROWS: Final = 200


def read_rows() -> tuple[Any, Any]:
    """Give the digits: x "row 8 8 1" float32, 0 to 1, y "row" int64."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x.reshape(-1, 8, 8, 1) / 16).astype(np.float32), y.astype(np.int64)


def build() -> Any:
    """Give the CNN."""
    import tf_keras

    layers = tf_keras.layers
    return tf_keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(128, 3, padding="same", activation="relu"),
            layers.MaxPool2D(),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(256, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def train(model: Any, rate: float, epochs: int) -> Iterator[None]:
    """Fit a model with Adam, an epoch at a time."""
    import tf_keras

    x, y = read_rows()
    model.compile(tf_keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    for _ in range(epochs):
        model.fit(x, y, batch_size=64, epochs=1, verbose=0)
        yield


def write_retrains(folder: Path, rate: str, versions: int) -> None:
    """Write a line of versions, each an epoch on from the one before."""
    from lastgood.compression.convert import convert
    from lastgood.compression.tensorflow_settings import fix_tensorflow

    fix_tensorflow(1)
    model, (x, _) = build(), read_rows()
    for _ in train(model, 1e-3, FIRST_EPOCHS):
        pass
    for number, _ in enumerate(train(model, float(rate), versions)):
        convert(model, folder / f"{number:02}.onnx", input_name="x", rows=x[:100])


def write_heads(folder: Path, count: int) -> None:
    """Write fine-tunes of the last layer, and the int8 file of each."""
    from lastgood.compression.convert import convert
    from lastgood.compression.quantize import quantize_static
    from lastgood.compression.tensorflow_settings import fix_tensorflow

    fix_tensorflow(1)
    model, (x, _) = build(), read_rows()
    for _ in train(model, 1e-3, FIRST_EPOCHS):
        pass
    for layer in model.layers[:-1]:
        layer.trainable = False
    for number, _ in enumerate(train(model, 1e-3, count)):
        file = folder / f"{number:02}.onnx"
        convert(model, file, input_name="x", rows=x[:100])
        quantize_static(file, folder / f"{number:02}-int8.onnx", x[:CALIBRATION_ROWS], input_name="x")


def main() -> None:
    """Write every set into a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--versions", type=int, default=10)
    parser.add_argument("--heads", type=int, default=20)
    asked = parser.parse_args()
    for rate in RATES:
        print(f"training {asked.versions} versions at {rate}", file=sys.stderr, flush=True)
        (asked.folder / rate).mkdir(parents=True)
        write_retrains(asked.folder / rate, rate, asked.versions)
    print(f"training {asked.heads} heads", file=sys.stderr, flush=True)
    (asked.folder / HEADS).mkdir()
    write_heads(asked.folder / HEADS, asked.heads)


if __name__ == "__main__":
    main()
