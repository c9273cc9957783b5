"""TensorFlow quiet and repeatable: the environment of its process, and its switches."""

import random

import numpy as np

THREADS = 2  # a fixed number, not the host's: sums in another order give other bytes


def quiet_environment() -> dict[str, str]:
    """Give the variables that must be set before TensorFlow is imported."""
    return {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_USE_LEGACY_KERAS": "1",
        "TF_NUM_INTRAOP_THREADS": str(THREADS),
        "TF_NUM_INTEROP_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "ignore",
    }


def fix_random(seed: int) -> None:
    """Seed Python's and NumPy's global generators, which a user's code may draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is the one to fix


def fix_tensorflow(seed: int) -> None:
    """
    Make TensorFlow give the same numbers and names again from here on: seeds, operator determinism, fresh layer names.

    The number of threads comes from `quiet_environment`, since it cannot change once TensorFlow has started.
    """
    import tensorflow as tf
    import tf_keras

    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(seed % 2**32)
    tf.config.experimental.enable_op_determinism()
