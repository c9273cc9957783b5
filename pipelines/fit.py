"""How a model is fitted where a pipeline does not say so itself."""

from collections.abc import Callable, Mapping
from typing import Any

from lastgood.compression.convert import kind_of
from lastgood.pipelines.data import Data
from lastgood.pipelines.progress import report_part

EPOCHS, BATCH_SIZE, LEARNING_RATE = 10, 64, 1e-3


def fit_model(model: Any, data: Data, parameters: Mapping[str, Any]) -> None:
    """
    Fit a scikit-learn estimator as it is, or a Keras model with Adam and a cosine decay on the cross-entropy.

    Args:
        model: tf_keras model with softmax output, compiled or not, or scikit-learn classifier.
        data: ``train`` is used.
        parameters: ``epochs``, ``batch_size`` and ``learning_rate`` where given, for Keras.
    """
    x, y = data.train
    if kind_of(model) == "sklearn":
        model.fit(x, y)
        return
    import tf_keras

    epochs, batch_size = int(parameters.get("epochs", EPOCHS)), int(parameters.get("batch_size", BATCH_SIZE))
    steps = epochs * -(-len(y) // batch_size)
    rate = tf_keras.optimizers.schedules.CosineDecay(float(parameters.get("learning_rate", LEARNING_RATE)), steps)
    model.compile(tf_keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    watch = tf_keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, _logs: report_part((epoch + 1) / epochs))
    model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=[watch])


def fit_more(fit: Callable[[Any, Data, Mapping[str, Any]], None], model: Any, data: Data, parameters: Mapping[str, Any]) -> None:
    """
    Fit a model further that has a version's weights.

    Args:
        fit: The pipeline's own, for Keras models.
        model: From `lastgood.pipelines.warm_start.restore_state`.
        data: ``train`` is used.
        parameters: With ``epochs``; 0 leaves the model as it is.
    """
    epochs = int(parameters["epochs"])
    if kind_of(model) == "sklearn":
        from lastgood.pipelines.warm_start import continue_fit

        continue_fit(model, data.train, epochs=epochs)
    elif epochs:
        fit(model, data, parameters)
