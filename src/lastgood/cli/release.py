"""``lastgood release``."""

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from lastgood.cli.flags import DryRun, Json, Seed, Tag, WaitSeconds


def release(
    model: str,
    /,
    *,
    why: Annotated[str, Parameter(name=["--message", "-m"])] = "",
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    seed: Seed = None,
    strategy: Literal["canary", "direct", "shadow"] = "canary",
    deploy: Annotated[bool, Parameter(negative="--no-deploy")] = True,
    traffic: Literal["none", "evaluation"] = "none",
    wait: Literal["live", "stable"] = "live",
    wait_seconds: WaitSeconds = 900.0,
    replace: Annotated[bool, Parameter(negative="")] = False,
    tag: Tag = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """
    Train, compress, gate, register and deploy a model.

    Example: lastgood release digits --traffic evaluation --wait stable

    Args:
        model: digits, tumour, fraud, recommend, docs, or one of your own: see lastgood new.
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
        tag: Tag the commit with the version's name, annotated with its digest; needs a tree without changes.
        dry_run: Say what would be done, and do nothing.
        json: Write JSON.
    """
    from lastgood.cli.flow import call_flow
    from lastgood.cli.output import note, print_json
    from lastgood.pipelines.deploy import find_policy
    from lastgood.pipelines.find import find_pipeline
    from lastgood.pipelines.gate_settings import read_gate
    from lastgood.pipelines.parameters import join_parameters, parse_overrides
    from lastgood.settings import load_settings

    settings = load_settings()
    found = find_pipeline(settings, model)  # a person's mistake is told before anything starts
    overrides = parse_overrides(set_ or [])
    parameters = join_parameters(found.pipeline.parameters, overrides)
    find_policy(settings, model)
    own = settings.models.get(model)
    read_gate(found.pipeline.gate, own.gate if own else {}, model=model)
    if dry_run:
        rest = f", register and deploy ({strategy})" if deploy else " and register"
        note(f"would train {model} from {found.file} with {parameters}, compress, gate{rest}")
        return
    if deploy and not replace:
        warn_of_rollout(settings, model)
    result = call_flow(
        settings,
        "lastgood.flows.release:release",
        model,
        what="this release",
        why=why,
        overrides=overrides,
        seed=seed,
        strategy=strategy,
        deploy=deploy,
        traffic=traffic,
        wait=wait,
        wait_seconds=wait_seconds,
        replace=replace,
        tag=tag,
    )
    if json:
        print_json(result)
    else:
        print_release(result)


def warn_of_rollout(settings: Any, model: str) -> None:
    """Say, before minutes of training, that a rollout runs which the new version would wait for."""
    from lastgood.cli.output import note
    from lastgood.cli.routes import tell_progress
    from lastgood.serving.client import Control

    with Control(settings) as control:
        running = next((tell_progress(s) for s in control.routes() if s["model"] == model and s["progress"]), None)
    if running:
        note(f"{running}. Unless that ends first, this release is registered and not deployed (--replace takes it out).")


def print_release(result: dict[str, Any]) -> None:
    """Write what a release came to: variants, gate, version, where to look and how to ask it."""
    from lastgood.cli.output import print_fields, print_line, print_table
    from lastgood.pipelines.compress import COMPRESS_RESULT, CompressResult
    from lastgood.pipelines.compress import tabulate as tabulate_variants
    from lastgood.pipelines.gate import REPORT, VERDICT, GateVerdict
    from lastgood.pipelines.gate import tabulate as tabulate_gate
    from lastgood.pipelines.run import open_run
    from lastgood.settings import load_settings

    settings = load_settings()
    run = open_run(settings, Path(result["run"]))
    variants = tabulate_variants(run.read(COMPRESS_RESULT, CompressResult, step="compress"))
    verdict = tabulate_gate(run.read(VERDICT, GateVerdict, step="gate"))
    for table in (variants, verdict):
        print_line("")
        print_table(table.title, table.columns, table.rows)
    version, rollout = result["version"], result["rollout"]
    print_line("")
    print_line(f"{version['model']}@{version['number']} {version['digest']}")
    urls: list[tuple[str, Any]] = [("gate report", run.folder / REPORT)]
    if rollout is not None:
        print_line(f"{version['model']}@{rollout['live']['number']} is live; its rollout is {rollout['rollout']['state']}.")
        urls += [("API", f"{settings.rest_url}/v2/models/{version['model']}"), ("metrics", f"{settings.control_url}/metrics")]
        urls += _running(settings)
    print_fields("Where to look", urls)
    if rollout is not None:
        example, label = _write_example(run, settings.home)
        print_line("")
        print_line(f"Ask it (the answer's largest number should be at place {label}, counted from 0):")
        print_line(f"curl -s {settings.rest_url}/v2/models/{version['model']}/infer -d @{shlex.quote(str(example))}")


def _running(settings: Any) -> list[tuple[str, Any]]:
    from lastgood.stack.processes import Stack
    from lastgood.stack.services import build_services

    stack = Stack(settings.home)
    titles = {"prefect": "Prefect UI", "prometheus": "Prometheus", "alertmanager": "Alertmanager"}
    return [(titles[s.name], s.url) for s in build_services(settings)[0] if s.name in titles and stack.running(s.name) is not None]


def _write_example(run: Any, home: Path) -> tuple[Path, int]:
    """Write a request with one evaluation row that the model answers right; give the file and the row's label."""
    import msgspec

    from lastgood.pipelines.compress import COMPRESS_RESULT, CompressResult
    from lastgood.pipelines.evaluation import answer, load_evaluation
    from lastgood.pipelines.traffic import make_inputs
    from lastgood.pipelines.train import EVALUATION
    from lastgood.runtime import open_session

    evaluation = load_evaluation(run.folder / EVALUATION)
    model = run.folder / run.read(COMPRESS_RESULT, CompressResult, step="compress").file
    right = int((answer(open_session(model), evaluation) == evaluation.y).argmax())
    rows = [row for own in evaluation.sets.values() for row in own.x]
    path = home / "examples" / f"{run.model}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.encode({"inputs": make_inputs(run, rows[right])}))
    return path, int(evaluation.y[right])
