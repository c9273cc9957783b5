"""Deploying: hand an intent to the gateway and watch what it makes of it."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from lastgood.errors import IntegrityError, TakenBackError, TimedOutError, UnavailableError
from lastgood.monitoring.predictions.settings import PredictionSettings, read_predictions
from lastgood.pipelines.errors import PipelineNotFoundError
from lastgood.pipelines.find import find_pipeline
from lastgood.serving.client import Control
from lastgood.serving.rollout.policy import RolloutPolicy, read_policy
from lastgood.settings import PROJECT_FILE, Settings

Until = Literal["live", "stable"]
# States in which what was waited for has happened.
_REACHED: Mapping[Until, frozenset[str]] = {"live": frozenset({"soaking", "stable"}), "stable": frozenset({"stable"})}


def find_policy(settings: Settings, model: str) -> RolloutPolicy:
    """
    Give a model's rollout policy: the project's values over the pipeline's over the defaults.

    A model that was imported has no pipeline, and then only the project's values.

    Raises:
        ConfigurationError: A value is not valid.
    """
    own = settings.models.get(model)
    try:
        values = dict(find_pipeline(settings, model).pipeline.rollout)
    except PipelineNotFoundError:
        values = {}
    return read_policy({**values, **(own.rollout if own else {})}, source=f"the pipeline of {model} or {PROJECT_FILE}")


def find_predictions(settings: Settings, model: str) -> PredictionSettings:
    """
    Give how a model's predictions are kept and watched.

    Raises:
        ConfigurationError: A value is not valid.
    """
    own = settings.models.get(model)
    return read_predictions(own.predictions if own else {}, model=model, source=PROJECT_FILE)


def await_rollout(
    control: Control, model: str, rollout: str, *, until: Until, seconds: float, tell: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """
    Watch a rollout until it carries the traffic, or is stable.

    Args:
        control: The gateway.
        model: Which model.
        rollout: The rollout's id, from the answer to `Control.deploy`.
        until: live: soaking began.
        seconds: For how long at most.
        tell: Called with the model's state at each change.

    Raises:
        TakenBackError: It was withdrawn, or something else took its place.
        IntegrityError: Its stored bytes are not what was registered; it got no request.
        UnavailableError: It did not become ready for another reason.
        TimedOutError: It did not get there; the message says how far it came.
    """
    end = time.monotonic() + seconds
    state: dict[str, Any] = {}
    own: str | None = None  # the candidate's digest
    for state in control.watch(model, seconds=seconds):
        tell(state)
        found = state["rollout"]
        if found is not None and found["id"] != rollout and found["comparison"] and found["candidate"]["digest"] == own:
            return state  # only what was stable is compared because of an alert
        if found is None or found["id"] != rollout:
            raise TakenBackError(f"Another rollout of {model} took the place of this one. See: lastgood log {model}.")
        own, name = found["candidate"]["digest"], f"{model}@{found['candidate']['number']}"
        if found["state"] == "withdrawn":
            serving = f"{model}@{state['live']['number']} serves" if state["live"] else "nothing serves"
            why = (state["reason"] or found["cause"]).rstrip(".")
            if found["cause"] == "not-ready":
                kind = IntegrityError if state["reason_code"] == IntegrityError.exit_code else UnavailableError
                raise kind(f"{name} did not become ready and got no request: {why}. Now {serving}.")
            raise TakenBackError(f"{name} was withdrawn ({found['cause']}): {why}. Now {serving}. Details: lastgood explain {model}.")
        if found["state"] in _REACHED[until]:
            return state
        if time.monotonic() >= end:
            break
    raise TimedOutError(_how_far(model, state, seconds))


def _how_far(model: str, state: Mapping[str, Any], seconds: float) -> str:
    rollout, progress = state["rollout"], state["progress"]
    held = f"held: {progress['requests']} of {progress['requests_needed']} requests" if progress else "no replica is ready yet"
    return (
        f"{model}@{rollout['candidate']['number']} is {rollout['state']} after {seconds:.0f} s ({held}). The gateway goes on with it; "
        f"watch: lastgood status. Without requests nothing is promoted; --traffic evaluation sends some."
    )
