"""
Going on from a version's weights: what is kept of a trained model, and how another one of the same structure gets it.

Keras models give their weights; of scikit-learn's estimators those can be continued whose state is a few arrays. Nothing
is pickled.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from lastgood.compression.convert import kind_of
from lastgood.compression.magnitude import load_weights, save_weights
from lastgood.errors import UsageError
from lastgood.pipelines.data import Array, Labelled

BATCH_ROWS: Final = 64
# What each one knows after fitting. The first group is fitted further, the second one keeps what it has.
_LINEAR: Final = ("classes_", "coef_", "intercept_")
_STATE: Final[Mapping[str, tuple[str, ...]]] = {
    "SGDClassifier": (*_LINEAR, "t_"),
    "LogisticRegression": (*_LINEAR, "n_iter_"),
    "MLPClassifier": ("classes_", "t_"),  # and its layers
    "StandardScaler": ("mean_", "var_", "scale_", "n_samples_seen_"),
    "MinMaxScaler": ("min_", "scale_", "data_min_", "data_max_", "data_range_", "n_samples_seen_"),
}
CONTINUED: Final = ("SGDClassifier", "LogisticRegression", "MLPClassifier")


class CannotContinueError(UsageError):
    """A model that cannot go on from the live version's weights."""

    code = "pipelines.cannot-continue"


def keep_state(model: Any, file: Path) -> bool:
    """Write what `restore_state` needs of a fitted model; give False where such a model cannot be continued."""
    if kind_of(model) == "tf_keras":
        save_weights(model, file)
        return True
    steps = _steps_of(model)
    if explain_refusal(steps) is not None:
        return False
    arrays: dict[str, Array] = {}
    for index, step in enumerate(steps):
        name = type(step).__name__
        arrays |= {f"{index}/{name}/{own}": np.asarray(value) for own in _STATE[name] if (value := getattr(step, own, None)) is not None}
        if name == "MLPClassifier":
            layers = zip(step.coefs_, step.intercepts_, strict=True)
            arrays |= {
                f"{index}/{name}/layer{number:03}/{part}": own for number, pair in enumerate(layers) for part, own in enumerate(pair)
            }
    np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's own stub takes the names for its options
    return True


def restore_state(model: Any, file: Path, rows: Labelled) -> None:
    """
    Give a model that was built, and not fitted, the state of a version.

    Args:
        model: Of the same structure.
        file: From `keep_state`.
        rows: What it will be fitted to: x "row feature…", y; the number of features must be the version's.

    Raises:
        CannotContinueError: The structure is another one, or nothing of this kind can be continued.
    """
    if kind_of(model) == "tf_keras":
        try:
            load_weights(model, file)
        except (ValueError, KeyError) as exc:
            raise CannotContinueError(_explain_structure(str(exc).splitlines()[0])) from exc
        return
    steps = _steps_of(model)
    if (refusal := explain_refusal(steps)) is not None:
        raise CannotContinueError(refusal)
    with np.load(file, allow_pickle=False) as saved:
        state = {name: saved[name] for name in saved.files}
    for index, step in enumerate(steps):
        name = type(step).__name__
        own = {key.removeprefix(f"{index}/{name}/"): value for key, value in state.items() if key.startswith(f"{index}/{name}/")}
        if not own:
            kinds = ", ".join(dict.fromkeys(key.split("/")[1] for key in state if "/" in key)) or "a Keras model"
            raise CannotContinueError(_explain_structure(f"it was {kinds}, and build() gives {', '.join(type(s).__name__ for s in steps)}"))
        if name == "MLPClassifier":
            _restore_layers(step, own, rows[0].shape[1])
        else:
            _restore_attributes(step, own, rows[0].shape[1])


def continue_fit(model: Any, rows: Labelled, *, epochs: int) -> None:
    """
    Fit a scikit-learn estimator further, in place.

    Args:
        model: From `restore_state`.
        rows: x "row feature" float32, y "row" int64.
        epochs: Passes over the rows; 0 leaves it as it is. For LogisticRegression, which looks at all rows at once, steps.

    Raises:
        CannotContinueError: A class is missing that the estimator must see.
    """
    *before, last = _steps_of(model)
    x, y = rows
    for step in before:
        x = step.transform(x)
    if not epochs:
        return
    if type(last).__name__ == "LogisticRegression":
        if missing := sorted(set(last.classes_.tolist()) - set(y.tolist())):
            raise CannotContinueError(f"LogisticRegression must see every class, and no row is of {missing}: raise replay_ratio.")
        last.set_params(warm_start=True, max_iter=epochs)
        _fit_quietly(last, x, y)
        return
    random = np.random.default_rng(last.random_state if isinstance(last.random_state, int) else 0)
    for _ in range(epochs):
        order = random.permutation(len(y))
        for start in range(0, len(y), BATCH_ROWS):
            taken = order[start : start + BATCH_ROWS]
            last.partial_fit(x[taken], y[taken])


def explain_refusal(steps: Sequence[Any]) -> str | None:
    """Say why estimators cannot be continued; None where they can."""
    *before, last = steps
    name = type(last).__name__
    known = all(type(step).__name__ in _STATE and type(step).__module__.startswith("sklearn.") for step in steps)
    if not known or name not in CONTINUED or any(type(step).__name__ in CONTINUED for step in before):
        shown = " after ".join(type(step).__name__ for step in reversed(steps))
        return (
            f"{shown} cannot be trained further from stored weights. These can: tf_keras models, {', '.join(CONTINUED)}, alone or after "
            'StandardScaler or MinMaxScaler. Train again from the start instead: policy = "full".'
        )
    whole = name == "MLPClassifier" and last.solver == "lbfgs"
    if whole or getattr(last, "average", False) or getattr(last, "early_stopping", False):
        return f'{name} with average, early_stopping or solver = "lbfgs" cannot be trained further. Change it, or use policy = "full".'
    return None


def _steps_of(model: Any) -> list[Any]:
    return [step for _, step in model.steps] if type(model).__name__ == "Pipeline" else [model]


def _restore_attributes(step: Any, own: Mapping[str, Array], features: int) -> None:
    width = next((value.shape[-1] for key, value in own.items() if key in {"coef_", "scale_", "min_"}), features)
    if width != features:
        raise CannotContinueError(_explain_structure(f"it takes {width} features, the rows have {features}"))
    for name in _STATE[type(step).__name__]:
        value = own.get(name)
        setattr(step, name, value if value is None or value.ndim else value.item())
    step.n_features_in_ = features


def _restore_layers(step: Any, own: Mapping[str, Array], features: int) -> None:
    classes = own["classes_"]
    # The first pass over anything makes the layers, and what scikit-learn keeps beside them; then they get their values.
    step.partial_fit(np.zeros((len(classes), features), np.float32), classes, classes=classes)
    del step._optimizer  # noqa: SLF001 - its moments are of that pass; the next one makes another
    for number, pair in enumerate(zip(step.coefs_, step.intercepts_, strict=True)):
        for part, values in enumerate(pair):
            kept = own.get(f"layer{number:03}/{part}")
            if kept is None or kept.shape != values.shape:
                raise CannotContinueError(
                    _explain_structure(f"layer {number} has {'no values' if kept is None else kept.shape}, built was {values.shape}")
                )
            values[...] = kept
    if f"layer{len(step.coefs_):03}/0" in own:
        raise CannotContinueError(_explain_structure(f"it has more than {len(step.coefs_)} layers"))
    step.t_ = int(own["t_"])


def _fit_quietly(model: Any, x: Array, y: Array) -> None:
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # to stop after some steps is what was asked for
        model.fit(x, y)


def _explain_structure(what: str) -> str:
    return (
        f"The live version's weights do not fit what build() gives now: {what}. A model of another structure is trained from the "
        'start: policy = "full".'
    )
