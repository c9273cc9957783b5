"""``lastgood deploy``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from lastgood.cli.flags import DryRun, Json, WaitSeconds, Why


def deploy(
    ref: str,
    /,
    *,
    why: Why = "",
    strategy: Literal["canary", "direct", "shadow"] = "canary",
    wait: Literal["no", "live", "stable"] = "live",
    wait_seconds: WaitSeconds = 900.0,
    replace: Annotated[bool, Parameter(negative="")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """
    Roll a registered version out.

    The gateway drives the rollout; interrupting this command changes nothing about it.
    Example: lastgood deploy digits@3 -m "new camera"

    Args:
        ref: The version: digits@7, sha256:9f2c…, or the archive of the run that registered it.
        why: Why; kept in the record.
        strategy: canary: step by step beside the live version; shadow: copies first, whose answers nobody gets, then the same;
            direct: most of the traffic at once, the live version keeps a tenth.
        wait: When to return: at once, when it carries the traffic (soaking began), or when it is stable.
        wait_seconds: How long to wait at most; then exit code 7 says how far it came.
        replace: Take the candidate of a running rollout out first; one that has nothing beside it stays, as the baseline.
            A comparison ends without a verdict.
        dry_run: Say what would be done, and do nothing.
        json: Write JSON.
    """
    from lastgood.cli.output import note, print_json, print_line
    from lastgood.cli.person import who
    from lastgood.pipelines.accepted import policy_for
    from lastgood.pipelines.archive import check_commit, is_archive, unpack
    from lastgood.pipelines.deploy import await_rollout
    from lastgood.pipelines.register import read_registered
    from lastgood.registry.registry import Registry
    from lastgood.serving.client import Control
    from lastgood.settings import load_settings

    settings = load_settings()
    if is_archive(ref):
        run = unpack(settings, Path(ref))
        check_commit(run)
        ref, why = read_registered(run), why or run.facts.why
    with Registry.open(settings, writer="cli") as registry:
        version = registry.resolve(ref)
        policy = policy_for(settings, registry, version)
    if dry_run:
        note(
            f"would roll {version} ({version.digest[:19]}) out: {strategy}, steps {list(policy.steps)}, then soaking at {policy.soak_share}"
        )
        return
    with Control(settings) as control:
        state = control.deploy(
            f"{version.model}@{version.digest}",
            strategy=strategy,
            policy=policy.model_dump(mode="json"),
            actor=who(),
            why=why,
            replace=replace,
        )
        if wait != "no":
            state = await_rollout(control, version.model, state["rollout"]["id"], until=wait, seconds=wait_seconds, tell=_teller())
    if json:
        print_json(state)
    else:
        print_line(f"{version} {state['rollout']['state']}")


def _teller() -> Callable[[Mapping[str, Any]], None]:
    """Give what tells each stage once, and once what a rollout without requests waits for."""
    from lastgood.cli.output import note
    from lastgood.cli.routes import tell_progress

    told: set[object] = set()

    def tell(state: Mapping[str, Any]) -> None:
        progress, rollout = state["progress"], state["rollout"]
        stage = (rollout["state"], rollout["step"], rollout["suspected"])
        if stage not in told:
            told.add(stage)
            note(tell_progress(state))
        if progress and not progress["requests"] and progress["seconds"] > 5 and "idle" not in told:
            told.add("idle")
            note("no requests yet: nothing is promoted without (lastgood release has --traffic evaluation)")

    return tell
