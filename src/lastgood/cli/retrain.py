"""``lastgood retrain``."""

from typing import Annotated, Literal

from cyclopts import Parameter

from lastgood.cli.flags import DryRun, Json, Seed, WaitSeconds


def retrain(
    model: str,
    /,
    *,
    policy: Literal["full", "incremental"] | None = None,
    reason: Literal["demand", "schedule", "drift"] = "demand",
    why: Annotated[str, Parameter(name=["--message", "-m"])] = "",
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    seed: Seed = None,
    strategy: Literal["canary", "direct", "shadow"] = "canary",
    deploy: Annotated[bool, Parameter(negative="--no-deploy")] = True,
    traffic: Literal["none", "evaluation"] = "none",
    wait: Literal["live", "stable"] = "live",
    wait_seconds: WaitSeconds = 900.0,
    replace: Annotated[bool, Parameter(negative="")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """
    Train a model again on what is new, and release it: compress, gate, register, deploy.

    Where there is nothing to do (too few newly labelled rows), it says so and leaves with 0.
    Example: lastgood retrain digits --policy incremental

    Args:
        model: Which model; [models.MODEL.update] in lastgood.toml has its policy.
        policy: full: from the start; incremental: from the live version's weights on, with newly labelled rows of the prediction log.
        reason: What starts it. By schedule or drift, it is skipped while the same commit and data cool down after a withdrawal.
        why: Why; kept in the record.
        set_: A parameter of the pipeline to change, as name=value; may be repeated.
        seed: Of everything random; default: the next version number.
        strategy: canary: step by step beside the live version; shadow: copies first, whose answers nobody gets, then the same;
            direct: most of the traffic at once.
        deploy: Roll it out; otherwise it is registered only.
        traffic: evaluation sends the evaluation rows as requests, labelled so in the metrics.
        wait: When to return: when it carries the traffic (soaking began), or when it is stable.
        wait_seconds: How long to wait for that at most; then exit code 7 says how far it came.
        replace: Take the candidate of a running rollout out first; one that has nothing beside it stays, as the baseline.
        dry_run: Say what would be done, and do nothing.
        json: Write JSON.
    """
    from lastgood.cli.flow import call_flow
    from lastgood.cli.output import note, print_json
    from lastgood.cli.release import print_release, warn_of_rollout
    from lastgood.pipelines.deploy import find_policy
    from lastgood.pipelines.find import find_pipeline
    from lastgood.pipelines.parameters import join_parameters, parse_overrides
    from lastgood.pipelines.update_settings import read_update
    from lastgood.settings import load_settings

    settings = load_settings()
    found = find_pipeline(settings, model)  # a person's mistake is told before anything starts
    overrides = parse_overrides(set_ or [])
    join_parameters(found.pipeline.parameters, overrides)
    find_policy(settings, model)
    asked = read_update(settings, model)
    if dry_run:
        rest = f", register and deploy ({strategy})" if deploy else " and register"
        note(f"would train {model} again ({policy or asked.policy}) from {found.file}, compress, gate{rest}")
        return
    if deploy and not replace:
        warn_of_rollout(settings, model)
    result = call_flow(
        settings,
        "lastgood.flows.retrain:retrain",
        model,
        what="this update",
        policy=policy,
        reason=reason,
        why=why,
        overrides=overrides,
        seed=seed,
        strategy=strategy,
        deploy=deploy,
        traffic=traffic,
        wait=wait,
        wait_seconds=wait_seconds,
        replace=replace,
    )
    if json:
        print_json(result)
    elif result["skipped"] is not None:
        note(f"skipped: {result['skipped']['sentence']}")
    else:
        print_release(result)
