"""``lastgood trigger``."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from lastgood.cli.flags import Json, Seed, WaitSeconds
from lastgood.cli.output import note, print_json, print_line

if TYPE_CHECKING:
    from lastgood.flows.triggers.verdict import Verdict
    from lastgood.settings import Settings


def trigger(
    server: Literal["jenkins", "prefect"],
    model: str,
    /,
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    seed: Seed = None,
    why: Annotated[str, Parameter(name=["--message", "-m"])] = "",
    strategy: Literal["canary", "direct", "shadow"] = "canary",
    deploy: Annotated[bool, Parameter(negative="--no-deploy")] = True,
    approval: Annotated[bool, Parameter(negative="")] = False,
    wait: Literal["live", "stable"] = "live",
    commit: str | None = None,
    url: str | None = None,
    wait_seconds: WaitSeconds = 7200.0,
    json: Json = False,
) -> int:
    """
    Start a release on Jenkins or Prefect, follow it, and leave with its verdict as exit code.

    Interrupting this command changes nothing about what it started.
    Example: lastgood trigger jenkins digits --set epochs=6 -m "six epochs"

    Args:
        server: jenkins: a job of the repository's Jenkinsfile, one for each model; prefect: the deployment release/release.
        model: Which model.
        set_: A parameter of the pipeline to change, as name=value; may be repeated.
        seed: Of everything random; default: the next version number.
        why: Why; kept in the record.
        strategy: canary: step by step beside the live version; shadow: copies first, whose answers nobody gets, then the same;
            direct: most of the traffic at once.
        deploy: Roll it out; otherwise it is registered only.
        approval: Jenkins: ask a person before it is rolled out.
        wait: How far the rollout is followed: until it carries the traffic (soaking began), or is stable.
        commit: Jenkins: what to release; default: what is checked out here.
        url: Jenkins: its address; default: [jenkins] url in lastgood.toml.
        wait_seconds: How long to wait at most; then exit code 7.
        json: Write JSON.
    """
    from lastgood.errors import UsageError
    from lastgood.pipelines.parameters import parse_overrides
    from lastgood.refs import check_model_name
    from lastgood.settings import load_settings

    check_model_name(model)
    if server == "prefect" and (approval or commit is not None or url is not None):
        raise UsageError("--approval, --commit and --url are Jenkins': Prefect's deployment runs the code its worker has.")
    overrides = parse_overrides(set_ or [])
    settings = load_settings()
    if server == "jenkins":
        parameters = {
            "MODEL": model,
            "STRATEGY": strategy,
            "SETTINGS": "\n".join(f"{name}={value}" for name, value in overrides.items()),
            "WHY": why,
            "SEED": "" if seed is None else str(seed),
            "DEPLOY": str(deploy).lower(),
            "APPROVAL": str(approval).lower(),
            "WAIT": wait,
        }
        verdict = _on_jenkins(settings, model, parameters, commit=commit, url=url, seconds=wait_seconds)
    else:
        values = {"model": model, "why": why, "overrides": overrides, "seed": seed, "strategy": strategy, "deploy": deploy, "wait": wait}
        verdict = _on_prefect(settings, values, seconds=wait_seconds)
    if json:
        print_json(verdict)
    else:
        print_line(f"{verdict.result} {verdict.url}")
    if verdict.exit_code:
        note(verdict.sentence)
    return verdict.exit_code


def _on_jenkins(
    settings: "Settings", model: str, parameters: dict[str, str], *, commit: str | None, url: str | None, seconds: float
) -> "Verdict":
    from lastgood.errors import ConfigurationError

    try:
        from lastgood.flows.triggers.controller import Controller
    except ModuleNotFoundError as exc:
        raise ConfigurationError(f"{exc.name} is not installed: pip install 'lastgood[ci]'.") from None
    from lastgood.flows.triggers.jenkins import release
    from lastgood.flows.triggers.jenkins_job import JenkinsJob
    from lastgood.pipelines.provenance import read_commit, read_origin

    own = settings.jenkins
    here, dirty = read_commit(settings.project)
    if commit is None and dirty:
        note(f"Changes that are not committed are not released; commit {str(here)[:12]} is.")
    job = JenkinsJob(model, own.repository or read_origin(settings.project), own.branch, own.credentials)
    parameters = {**parameters, "COMMIT": commit or here or "HEAD"}
    return release(Controller(settings, url), job, parameters, seconds=seconds, echo=note)


def _on_prefect(settings: "Settings", parameters: Mapping[str, object], *, seconds: float) -> "Verdict":
    from lastgood.flows.local import prefect_settings
    from lastgood.stack.services import prefect_environment

    with prefect_settings(prefect_environment(settings)):
        from lastgood.flows.triggers.prefect import release

        api_url = os.environ["PREFECT_API_URL"]
        return release(parameters, api_url=api_url, pages=api_url.removesuffix("/api"), seconds=seconds, echo=note)
