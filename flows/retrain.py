"""The retrain flow: an update of a model, from the start or from the live version's weights on, released like any other version."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.states import Completed, State
from pydantic import Field

from lastgood.errors import FrozenError
from lastgood.flows.outcome import remember
from lastgood.flows.release import ask_gateway, release_run
from lastgood.flows.slots import hold_model
from lastgood.flows.steps import prepare_again
from lastgood.pipelines.child import read_fingerprint
from lastgood.pipelines.cooldown import find_cooldown
from lastgood.pipelines.drifted import find_attempt
from lastgood.pipelines.run import open_run
from lastgood.pipelines.update import Reason, TooFewRowsError
from lastgood.pipelines.update_settings import UpdatePolicy, read_update
from lastgood.serving.client import Control
from lastgood.settings import load_settings

SKIPPED = "Skipped"  # the name of the state of a run that found nothing to do, or was kept from doing it


@flow(name="retrain", flow_run_name="retrain {model} ({reason})")
def retrain(
    model: Annotated[str, Field(description="Which model")],
    policy: Annotated[UpdatePolicy | None, Field(description="All rows from the start, or new ones; default: the model's")] = None,
    reason: Annotated[Reason, Field(description="What starts it; a person's demand is not held up by a cooldown")] = "demand",
    why: Annotated[str, Field(description="Why; kept in the record")] = "",
    overrides: Annotated[dict[str, str] | None, Field(description="Parameters of the pipeline to change")] = None,
    seed: Annotated[int | None, Field(description="Of everything random; default: the next version number")] = None,
    strategy: Annotated[
        Literal["canary", "direct", "shadow"], Field(description="Step by step, copies of the traffic first, or most at once")
    ] = "canary",
    deploy: Annotated[bool, Field(description="Roll it out; otherwise it is registered only")] = True,  # noqa: FBT002 - a flow's parameter
    traffic: Annotated[Literal["none", "evaluation"], Field(description="Send the evaluation rows as requests")] = "none",
    wait: Annotated[Literal["live", "stable"], Field(description="Until it carries the traffic, or is stable")] = "live",
    wait_seconds: Annotated[float, Field(gt=0, description="For how long at most")] = 900.0,
    replace: Annotated[bool, Field(description="Withdraw a rollout that is running")] = False,  # noqa: FBT002 - a flow's parameter
) -> dict[str, Any] | State[Any]:
    """
    Train a model again and release it: the same gate, registration and rollout as any release.

    Returns:
        As the flow "release"; where it was skipped, only ``skipped``, with a code and a sentence, in a state of that name.

    Raises:
        NothingLiveError: An incremental update has no live version to go on from.
        WeightsGoneError: The live version's weights are not kept.
        GateRefusedError: The gate said no.
        TakenBackError: The version went live and was withdrawn.
        FrozenError: The model takes no release, and a person asked for one.
    """
    options = {"strategy": strategy, "traffic": traffic, "wait": wait, "wait_seconds": wait_seconds, "replace": replace}
    options["automatic"] = reason != "demand"
    result = _update(model, policy, reason, why, overrides or {}, seed, options if deploy else None)
    if result["skipped"] is None:
        return result
    return Completed(name=SKIPPED, message=result["skipped"]["sentence"], data=result)


@remember
def _update(
    model: str,
    policy: UpdatePolicy | None,
    reason: Reason,
    why: str,
    overrides: dict[str, str],
    seed: int | None,
    rollout: dict[str, Any] | None,
) -> dict[str, Any]:
    settings = load_settings()
    asked = read_update(settings, model)
    with hold_model(model):
        try:
            if reason == "drift" and not asked.on_drift:
                return _skip("not-wanted", f"{model} drifted, and models.{model}.update does not ask for an update then (on_drift).")
            if reason == "drift" and (lately := find_attempt(settings, model, datetime.now(UTC))) is not None:
                return _skip("tried-lately", f"{model} was trained again because of drift in {lately.run}, begun at {lately.created}.")
            if rollout is not None:
                ask_gateway(model)
                if reason != "demand" and (running := _find_rollout(model)) is not None:
                    return _skip("rollout-running", f"{running} is being rolled out; the next time will do.")
            folder = prepare_again(model, policy or asked.policy, reason, overrides, seed, why)
        except TooFewRowsError as exc:
            return _skip(exc.code, str(exc))
        except FrozenError as exc:
            if reason == "demand":
                raise
            return _skip(exc.code, str(exc))
        run = open_run(settings, Path(folder))
        if reason != "demand":
            cooldown = find_cooldown(settings, model, run.facts.commit, read_fingerprint(run), datetime.now(UTC))
            if cooldown is not None:
                return _skip("cooldown", str(cooldown))
        return {**release_run(folder, rollout=rollout), "skipped": None}


def _find_rollout(model: str) -> str | None:
    """Give the candidate of a rollout that runs: nobody asked for another one beside it."""
    with Control(load_settings()) as control:
        state = next((own for own in control.routes() if own["model"] == model), None)
    return f"{model}@{state['rollout']['candidate']['number']}" if state is not None and state["progress"] else None


def _skip(code: str, sentence: str) -> dict[str, Any]:
    return {"version": None, "run": None, "rollout": None, "skipped": {"code": code, "sentence": sentence}}
