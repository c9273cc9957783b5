"""The release flow: train, compress, gate, register, deploy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from lastgood.errors import FrozenError
from lastgood.flows.artifacts import show_gate, show_variants
from lastgood.flows.keys import compress_key, take_over, train_key
from lastgood.flows.outcome import remember
from lastgood.flows.slots import hold_model
from lastgood.flows.steps import deploy as deploy_version
from lastgood.flows.steps import gate, make, prepare, register_version
from lastgood.pipelines.child import read_fingerprint
from lastgood.pipelines.run import Run, open_run
from lastgood.pipelines.tag import check_taggable
from lastgood.serving.client import Control
from lastgood.settings import load_settings


@flow(name="release", flow_run_name="release {model}")
@remember
def release(
    model: Annotated[str, Field(description="Which model")],
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
    tag: Annotated[bool, Field(description="Tag the commit with the version's name and digest")] = False,  # noqa: FBT002 - a flow's parameter
) -> dict[str, Any]:
    """
    Release a model: train, compress, gate, register, and roll out while the judge watches.

    Returns:
        The version, the run folder, and the state of the rollout (None where it was not deployed).

    Raises:
        GateRefusedError: The gate said no.
        TakenBackError: The version went live and was withdrawn.
        FrozenError: The model takes no release.
    """
    with hold_model(model):
        if deploy:
            ask_gateway(model)
        folder = prepare(model, overrides or {}, seed, why)
        options = {"strategy": strategy, "traffic": traffic, "wait": wait, "wait_seconds": wait_seconds, "replace": replace}
        return release_run(folder, rollout=options if deploy else None, tag=tag)


def release_run(folder: str, *, rollout: Mapping[str, Any] | None, tag: bool = False) -> dict[str, Any]:
    """
    Take a run that is prepared through every step that is left; inside a flow.

    Args:
        folder: The run's.
        rollout: How to roll it out, as `lastgood.flows.steps.deploy` takes it; None: it is registered only.
        tag: Whether to tag the commit.

    Returns:
        The version, the run folder, and the state of the rollout.
    """
    run = open_run(load_settings(), Path(folder))
    if tag:
        check_taggable(run)
    trained = train_key(run, read_fingerprint(run))
    _make(run, "train", trained)
    _make(run, "compress", compress_key(run, trained))
    show_variants(run)
    try:
        gate(folder)
    finally:
        show_gate(run)
    version = register_version(folder, tag=tag)
    return {"version": version, "run": folder, "rollout": None if rollout is None else deploy_version(folder, version, **rollout)}


def _make(run: Run, step: Literal["train", "compress"], key: str) -> None:
    """Run a step, or take over what an earlier run made of the same; if that is gone, make it again."""
    source = Path(make(step, str(run.folder), key))
    if source != run.folder and not take_over(run, step, source):
        make.with_options(refresh_cache=True)(step, str(run.folder), key)


def ask_gateway(model: str) -> None:
    """
    Find out before the training what would fail after it.

    Raises:
        FrozenError: The model takes no release.
        GatewayAwayError: No gateway answers.
    """
    with Control(load_settings()) as control:
        frozen = next((state["frozen"] for state in control.routes() if state["model"] == model), None)
    if frozen:
        raise FrozenError(f"{model} is frozen ({frozen}). Look into it, then: lastgood unfreeze {model} -m WHY.")
