"""What a user writes to have a model released: where its rows come from and what is fitted to them."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lastgood.pipelines.data import Array, Data
from lastgood.pipelines.gate_settings import GateSettings


class Pipeline:
    """
    One model's recipe; `load` and `build` are enough.

    Example:
        >>> class Churn(Pipeline):
        ...     parameters = {"depth": 4}
        ...     def load(self):
        ...         return Data(train=(x, y), evaluation={"clean": (x_test, y_test)})
        ...     def build(self, parameters):
        ...         return RandomForestClassifier(max_depth=parameters["depth"])

    Attributes:
        parameters: Names and defaults of what ``--set name=value`` may change. The default `fit` of a Keras model
            reads ``epochs``, ``batch_size`` and ``learning_rate``.
        search: Parameters to try, the smallest model first; the first within ``search_points`` of the best is kept.
        search_points: Percentage points of validation accuracy.
        gate: Conditions before registering; lastgood.toml may override them.
        rollout: Policy of the rollout; lastgood.toml may override it.
        input_name: What callers name the input tensor.
        recipes: Compression recipes to try; default: all that fit the model.
    """

    parameters: ClassVar[Mapping[str, Any]] = {}
    search: ClassVar[Sequence[Mapping[str, Any]]] = ()
    search_points: ClassVar[float] = 0.2
    gate: ClassVar[GateSettings | Mapping[str, Any]] = GateSettings()
    rollout: ClassVar[Mapping[str, Any]] = {}
    input_name: ClassVar[str] = "input"
    recipes: ClassVar[Sequence[str] | None] = None

    def load(self) -> Data:
        """Give the rows; the same rows each time it is called."""
        raise PipelineIncompleteError(type(self).__name__, "load", "return Data(train=(x, y), evaluation={...})")

    def build(self, parameters: Mapping[str, Any]) -> Any:
        """Give a tf_keras model with one softmax output per class, or a scikit-learn classifier, not fitted yet."""
        del parameters
        raise PipelineIncompleteError(type(self).__name__, "build", "return a scikit-learn classifier or a tf_keras model")

    def fit(self, model: Any, data: Data, parameters: Mapping[str, Any]) -> None:
        """Fit what `build` gave to ``data.train``, in place; also called to fine-tune a pruned model."""
        from lastgood.pipelines.fit import fit_model

        fit_model(model, data, parameters)

    def fit_more(self, model: Any, data: Data, parameters: Mapping[str, Any]) -> None:
        """
        Fit a model that has the live version's weights to ``data.train``, in place: an incremental update.

        ``parameters`` are the live version's, with the update's ``epochs``. A Keras model is fitted by `fit`, an estimator
        of scikit-learn by ``partial_fit``.
        """
        from lastgood.pipelines.fit import fit_more

        fit_more(self.fit, model, data, parameters)

    def slices(self, x: Array, y: Array) -> Mapping[str, Array]:
        """Give parts of an evaluation set to be tested on their own: by name, "row" bool."""
        del x, y
        return {}


class PipelineIncompleteError(NotImplementedError):
    """A Pipeline without ``load`` or ``build``; reported as the pipeline's error, with its line."""

    def __init__(self, name: str, method: str, advice: str) -> None:
        """Say which method is missing and what it should do."""
        super().__init__(f"{name} has no {method}(): write one ({advice})")
