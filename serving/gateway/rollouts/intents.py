"""What a person or a flow wishes, and when it cannot be."""

from collections.abc import Collection
from dataclasses import dataclass

from lastgood.errors import ConflictError, FrozenError, TombstonedError
from lastgood.registry.cooldown import Cooldown
from lastgood.serving.gateway.rollouts.state import ModelState
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import Pin, Rollout, Strategy


@dataclass(frozen=True, slots=True)
class Intent:
    """A person's or a flow's wish to roll a version out."""

    ref: str
    strategy: Strategy
    policy: RolloutPolicy
    actor: str
    why: str
    replace: bool = False  # withdraw a rollout that is running
    automatic: bool = False  # nobody asked for it: a schedule, or a drift


def check_intent(intent: Intent, pin: Pin, state: ModelState, vetoed: Collection[str]) -> None:
    """
    Say whether a version can be rolled out now.

    Args:
        intent: The wish.
        pin: The version it names.
        state: What its model serves.
        vetoed: Digests that must not serve.

    Raises:
        TombstonedError: The version was taken out as bad.
        FrozenError: The model takes no release.
        ConflictError: A rollout is running and must not be replaced, or the version is live already.
    """
    name, model, running = f"{state.model}@{pin.number}", state.model, state.running
    if pin.digest in vetoed:
        raise TombstonedError(
            f"{name} was taken out as bad and cannot serve. See why: lastgood log {model}. "
            f"If that was a mistake: lastgood lift {pin.digest[:19]} -m WHY."
        )
    if state.frozen:
        raise FrozenError(f"{model} is frozen ({state.frozen}). Look into it, then: lastgood unfreeze {model} -m WHY.")
    if running is not None and running.baseline == pin:
        doing = "compared with it" if running.comparison else "being rolled out"
        raise ConflictError(
            f"{name} serves beside {model}@{running.candidate.number}, which is {doing} ({running.state}). "
            f"To go back to it: lastgood rollback {model} -m WHY."
        )
    if running is not None and running.comparison:
        _check_comparison(intent, pin, state, running)
        return
    if running is not None and running.candidate == pin:
        raise ConflictError(f"{name} is being rolled out already ({running.state}).")
    if running is not None and not intent.replace:
        raise ConflictError(
            f"{model}@{running.candidate.number} is being rolled out ({running.state}); {name} is registered and waits. "
            f"Wait until that is stable, or deploy with --replace, which takes {model}@{running.candidate.number} out."
        )
    if running is None and state.live == pin:
        raise ConflictError(f"{name} is live already.")


def check_cooldown(model: str, number: int, cooldown: Cooldown | None) -> None:
    """
    Refuse an automatic release of what has just failed.

    Raises:
        ConflictError: The model cools down from a withdrawal of the same commit and data.
    """
    if cooldown is not None:
        raise ConflictError(
            f"{model}@{number} is not released automatically: {cooldown} A person may: lastgood deploy {model}@{number} -m WHY."
        )


def _check_comparison(intent: Intent, pin: Pin, state: ModelState, running: Rollout) -> None:
    # A release waits for the verdict unless a person says otherwise: both need the traffic, and a live version that may be bad
    # is neither a baseline to be judged against nor a fallback to trust.
    live, beside = f"{state.model}@{running.candidate.number}", running.baseline.number if running.baseline else "nothing"
    if running.candidate == pin:
        raise ConflictError(f"{live} is live already; it is being compared with {state.model}@{beside} because of an alert.")
    if not intent.replace:
        raise ConflictError(
            f"{live} is being compared with {state.model}@{beside} because of an alert; {state.model}@{pin.number} waits, registered. "
            f"Wait for the verdict, or deploy with --replace, which ends the comparison without one: {live} stays live meanwhile."
        )
