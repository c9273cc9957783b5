"""The steps of a release as Prefect tasks: training and compressing are cached, registering and deploying never."""

import shutil
from pathlib import Path
from typing import Any, Literal

from prefect import task
from prefect.context import TaskRunContext

from lastgood.errors import LastgoodError
from lastgood.flows.watching import report_progress
from lastgood.pipelines.accepted import policy_for
from lastgood.pipelines.child import Step, run_step
from lastgood.pipelines.deploy import Until, await_rollout
from lastgood.pipelines.gate import VERDICT, GateVerdict
from lastgood.pipelines.progress import Progress
from lastgood.pipelines.register import register
from lastgood.pipelines.run import Run, create_run, open_run
from lastgood.pipelines.tag import check_taggable, tag_commit
from lastgood.pipelines.traffic import EvaluationTraffic
from lastgood.pipelines.update import Reason, TooFewRowsError, begin_update
from lastgood.pipelines.update_settings import UpdatePolicy
from lastgood.registry.registry import Registry
from lastgood.serving.client import Control
from lastgood.settings import load_settings


def _by_key(_: TaskRunContext, parameters: dict[str, Any]) -> str:
    return str(parameters["key"])


def _is_transient(_: Any, __: Any, state: Any) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, LastgoodError) and error.transient


@task(task_run_name="prepare {model}")
def prepare(model: str, overrides: dict[str, str], seed: int | None, why: str) -> str:
    """Make a run folder, and read the data for its fingerprint; give the folder."""
    run = create_run(load_settings(), model, overrides=overrides, seed=seed, why=why)
    run_step(run, "fingerprint", report_progress())
    return str(run.folder)


@task(task_run_name="prepare {model} again, {policy}")
def prepare_again(model: str, policy: UpdatePolicy, reason: Reason, overrides: dict[str, str], seed: int | None, why: str) -> str:
    """Make the run folder of an update, take what is new of the prediction log, and read the data's fingerprint; give the folder."""
    run = begin_update(load_settings(), model, policy=policy, reason=reason, overrides=overrides, seed=seed, why=why)
    try:
        run_step(run, "update", report_progress())
    except TooFewRowsError:
        shutil.rmtree(run.folder)  # nothing was made, and it may be asked for every quarter of an hour
        raise
    return str(run.folder)


@task(cache_key_fn=_by_key, persist_result=True, result_serializer="json", task_run_name="{step} {key:.8}")
def make(step: Literal["train", "compress"], folder: str, key: str) -> str:
    """Run a step that is worth caching in a child process; give the folder that holds its results."""
    del key
    _run(step, folder)
    return folder


@task(task_run_name="gate")
def gate(folder: str) -> dict[str, Any]:
    """Test the exact file that would be registered; fail where the gate says no."""
    run = _run("gate", folder)
    verdict = run.read(VERDICT, GateVerdict, step="gate")
    return {"passed": verdict.passed, "metrics": verdict.metrics}


@task(retries=3, retry_delay_seconds=[1, 3, 9], retry_condition_fn=_is_transient, task_run_name="register")
def register_version(folder: str, *, tag: bool) -> dict[str, Any]:
    """Make the file an immutable version; the same content twice is one version, and the same tag one tag, so this may be tried again."""
    run = open_run(load_settings(), folder)
    if tag:
        check_taggable(run)
    with Registry.open(run.settings, writer="cli") as registry:
        version = register(run, registry, report_progress())
    if tag:
        tag_commit(run, version)
    return {"model": version.model, "number": version.number, "digest": version.digest, "new": version.new}


@task(task_run_name="deploy {version[model]}@{version[number]}")
def deploy(
    folder: str,
    version: dict[str, Any],
    *,
    strategy: str,
    traffic: Literal["none", "evaluation"],
    wait: Until,
    wait_seconds: float,
    replace: bool,
    automatic: bool = False,
) -> dict[str, Any]:
    """Hand the version to the gateway and watch its rollout; the gateway goes on with it if this ends."""
    run = open_run(load_settings(), folder)
    on_progress, model = report_progress(), run.model
    with Registry.open(run.settings, writer="cli") as registry:
        policy = policy_for(run.settings, registry, registry.resolve(f"{model}@{version['digest']}")).model_dump(mode="json")
    with Control(run.settings) as control:
        ref, author, why = f"{model}@{version['digest']}", run.facts.author, run.facts.why
        submitted = control.deploy(ref, strategy=strategy, policy=policy, actor=author, why=why, replace=replace, automatic=automatic)

        def watch() -> dict[str, Any]:
            identity = submitted["rollout"]["id"]
            return await_rollout(
                control, model, identity, until=wait, seconds=wait_seconds, tell=lambda s: on_progress(tell_rollout(s, wait))
            )

        if traffic == "none":
            return watch()
        with EvaluationTraffic(run.settings, run):
            return watch()


def tell_rollout(state: Any, wait: Until) -> Progress:
    """Say how far a rollout is on its way to what is waited for."""
    rollout, progress = state["rollout"], state["progress"]
    name = f"{state['model']}@{rollout['candidate']['number']} {rollout['state']}"
    stages = [*(f"canary/{index}" for index in range(len(rollout["steps"]))), *(["soaking"] if wait == "stable" else [])]
    here = f"canary/{rollout['step']}" if rollout["state"] == "canary" else rollout["state"]
    if here not in stages or progress is None:
        return Progress("deploy", name, 0.0 if rollout["state"] == "staged" else 1.0)
    share = state["lanes"][-1]["share"]
    part = min(1.0, progress["requests"] / progress["requests_needed"], progress["seconds"] / max(progress["seconds_needed"], 1e-9))
    return Progress("deploy", f"{name} at {share:.0%}", (stages.index(here) + part) / len(stages))


def _run(step: Step, folder: str) -> Run:
    run = open_run(load_settings(), Path(folder))
    run_step(run, step, report_progress())
    return run
