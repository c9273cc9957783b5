"""
Magnitude pruning with TensorFlow Model Optimization, in a process of its own.

Importing that library sets ``TF_USE_LEGACY_KERAS``, which changes what ``tf.keras`` means for the rest of the
process, so it is imported in a child only: ``python -m lastgood.compression.magnitude FOLDER``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from lastgood.compression.recipes import RecipeDoesNotFitError
from lastgood.compression.tensorflow_settings import fix_tensorflow, quiet_environment

Array = np.ndarray[Any, Any]


def prune_weights(model: Any, rows: Array, labels: Array, *, sparsity: float, epochs: int, batch_size: int, seed: int) -> None:
    """
    Set a share of a Keras model's single weights to zero while training on, in place.

    Args:
        model: tf_keras model of Keras' own layers, softmax output.
        rows: "row feature…" float32 to train on.
        labels: "row" int64.
        sparsity: Share of each kernel's weights that become zero, 0 to 1.
        epochs: Passes over the rows; sparsity is reached at three quarters.
        batch_size: Rows per step.
        seed: Of shuffling.

    Raises:
        RecipeDoesNotFitError: The library refuses the model; the reason is its last line.
    """
    with TemporaryDirectory(prefix="lastgood-magnitude-") as name:
        folder = Path(name)
        (folder / "model.json").write_text(model.to_json(), "utf-8")
        np.savez(folder / "rows.npz", rows=rows, labels=labels)
        save_weights(model, folder / "weights.npz")
        options = {"sparsity": sparsity, "epochs": epochs, "batch_size": batch_size, "seed": seed}
        (folder / "options.json").write_text(json.dumps(options), "utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "lastgood.compression.magnitude", str(folder)],
            env={**os.environ, **quiet_environment()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RecipeDoesNotFitError(f"TensorFlow Model Optimization stopped with {last}")
        load_weights(model, folder / "pruned.npz")


def save_weights(model: Any, file: Path) -> None:
    """Write a Keras model's weights in order, without pickle."""
    np.savez(file, **{f"w{index:04}": values for index, values in enumerate(model.get_weights())})


def load_weights(model: Any, file: Path) -> None:
    """
    Read what `save_weights` wrote into a model of the same shapes.

    Raises:
        ValueError: The shapes are others.
    """
    with np.load(file, allow_pickle=False) as saved:
        model.set_weights([saved[name] for name in sorted(saved.files)])


def _prune_here(folder: Path) -> None:
    options = json.loads((folder / "options.json").read_text("utf-8"))
    fix_tensorflow(options["seed"])
    import tensorflow_model_optimization as tfmot
    import tf_keras

    model = tf_keras.models.model_from_json((folder / "model.json").read_text("utf-8"))
    load_weights(model, folder / "weights.npz")
    with np.load(folder / "rows.npz", allow_pickle=False) as saved:
        rows, labels = saved["rows"], saved["labels"]
    steps = options["epochs"] * -(-len(rows) // options["batch_size"])
    schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, options["sparsity"], begin_step=0, end_step=max(1, steps * 3 // 4), frequency=10)
    pruned = tfmot.sparsity.keras.prune_low_magnitude(model, pruning_schedule=schedule)
    pruned.compile(tf_keras.optimizers.Adam(5e-4), "sparse_categorical_crossentropy")
    callbacks = [tfmot.sparsity.keras.UpdatePruningStep()]
    pruned.fit(rows, labels, batch_size=options["batch_size"], epochs=options["epochs"], verbose=0, callbacks=callbacks)
    save_weights(tfmot.sparsity.keras.strip_pruning(pruned), folder / "pruned.npz")


if __name__ == "__main__":
    _prune_here(Path(sys.argv[1]))
