"""What Prefect would only find out at run time, looked for beforehand: server, work pool, worker, deployments, schedules."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from prefect import __version__ as installed
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import WorkerFilter
from prefect.client.schemas.objects import DeploymentStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from lastgood.errors import LastgoodError
from lastgood.pipelines.find import find_pipeline
from lastgood.pipelines.health import Finding
from lastgood.settings import Settings

_WORKER_SILENT: Final = timedelta(seconds=90)  # three heartbeats
FILE: Final = "prefect.yaml"


def examine_prefect(settings: Settings) -> list[Finding]:
    """
    Look at the Prefect server that this environment names, and at what prefect.yaml asks of it.

    Call it inside `lastgood.flows.local.prefect_settings`, so that the server is the project's.
    """
    try:
        with get_client(sync_client=True) as client:
            return list(_examine(client, settings))
    except (httpx.HTTPError, PrefectException, RuntimeError) as exc:
        return [Finding("prefect server", "problem", f"It does not answer: {_first_line(exc)}. Start it: lastgood up prefect.")]


def _examine(client: SyncPrefectClient, settings: Settings) -> Iterator[Finding]:
    problem = client.api_healthcheck()
    if problem is not None:
        yield Finding("prefect server", "problem", f"It does not answer: {_first_line(problem)}. Start it: lastgood up prefect.")
        return
    version = client.api_version()
    same = version.split(".")[:2] == installed.split(".")[:2]
    sentence = f"{client.api_url} runs Prefect {version}"
    yield (
        Finding("prefect server", "ok", f"{sentence}.")
        if same
        else Finding("prefect server", "problem", f"{sentence}, and {installed} is installed here: flows may not load. Install {version}.")
    )
    file = settings.project / FILE
    if not file.is_file():
        sentence = f"There is no {FILE} in {settings.project}: releases are started from the command line only."
        yield Finding("deployments", "ok", sentence)
        return
    try:
        wanted = yaml.safe_load(file.read_text("utf-8"))["deployments"]
        pools = sorted({own["work_pool"]["name"] for own in wanted})
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as exc:
        sentence = f"{file} cannot be read: {_first_line(exc)}. Expected a list 'deployments', each with a work_pool."
        yield Finding("deployments", "problem", sentence)
        return
    if not client.read_deployments(limit=1):
        sentence = f"None of {FILE} is registered, so releases are started from the command line only. To start them from the pages: "
        commands = [f"prefect work-pool create {pool} --type process" for pool in pools]
        yield Finding("deployments", "warning", f"{sentence}{', '.join(commands)}, prefect deploy --all")
        return
    for pool in pools:
        yield from _examine_pool(client, pool)
    for own in wanted:
        yield _examine_deployment(client, settings, own)


def _examine_pool(client: SyncPrefectClient, name: str) -> Iterator[Finding]:
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        yield Finding("work pool", "problem", f"The server has no pool {name!r}: prefect work-pool create {name} --type process")
        return
    if pool.is_paused:
        yield Finding("work pool", "problem", f"{name!r} is paused, its runs wait for ever: prefect work-pool resume {name}")
    else:
        yield Finding("work pool", "ok", f"{name!r} takes runs ({pool.type}).")
    workers = client.read_workers_for_work_pool(name, worker_filter=WorkerFilter())
    now = datetime.now(UTC)
    awake = [own.name for own in workers if own.last_heartbeat_time and now - own.last_heartbeat_time < _WORKER_SILENT]
    if awake:
        yield Finding("worker", "ok", f"{len(awake)} of pool {name!r} answered within {_WORKER_SILENT.seconds} s.")
    else:
        known = f", {len(workers)} silent" if workers else ""
        sentence = f"No worker of pool {name!r} is awake{known}: its runs stay Late. prefect worker start --pool {name}"
        yield Finding("worker", "warning", f"{sentence} (Withdrawing needs none.)")


def _examine_deployment(client: SyncPrefectClient, settings: Settings, wanted: Mapping[str, Any]) -> Finding:
    entrypoint = str(wanted.get("entrypoint"))
    try:
        flow: Flow[Any, Any] = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    except Exception as exc:  # noqa: BLE001  # importing runs whatever is in the module; all of it is this finding
        return Finding(
            f"deployment {wanted.get('name')}", "problem", f"Its entrypoint {entrypoint!r} cannot be loaded: {_first_line(exc)}."
        )
    name = f"{flow.name}/{wanted['name']}"
    label = f"deployment {name}"
    try:
        deployed = client.read_deployment_by_name(name)
    except ObjectNotFound:
        return Finding(label, "problem", "The server does not know it: prefect deploy --all")
    problem = _compare(deployed, flow, entrypoint) or _check_parameters(settings, flow, {**deployed.parameters})
    if problem is not None:
        return Finding(label, "problem", problem)
    if deployed.paused:
        return Finding(label, "warning", f"It is paused, so its schedules do not start it: prefect deployment resume {name}")
    ready = " and a worker waits for it" if deployed.status == DeploymentStatus.READY else ""
    schedules = ", ".join(str(getattr(own.schedule, "cron", own.schedule)) for own in deployed.schedules if own.active)
    return Finding(label, "ok", f"It is as the code here{ready}{f'; runs at {schedules}' if schedules else ''}.")


def _compare(deployed: DeploymentResponse, flow: Flow[Any, Any], entrypoint: str) -> str | None:
    if deployed.entrypoint != entrypoint:
        return f"The server starts {deployed.entrypoint!r}, prefect.yaml says {entrypoint!r}: prefect deploy --all"
    now = parameter_schema(flow).model_dump_for_openapi()["properties"]
    then = (deployed.parameter_openapi_schema or {}).get("properties", {})
    if now != then:
        changed = sorted(key for key in now.keys() | then.keys() if now.get(key) != then.get(key))
        return f"The flow here takes other parameters than the server believes ({', '.join(changed)}): prefect deploy --all"
    for step in deployed.pull_steps or []:
        folder = step.get("prefect.deployments.steps.set_working_directory", {}).get("directory")
        if folder is not None and not Path(folder).is_dir():
            return f"It starts in {folder!r}, which does not exist here: call prefect deploy --all in the project's folder"
    return None


def _check_parameters(settings: Settings, flow: Flow[Any, Any], parameters: dict[str, Any]) -> str | None:
    model = parameters.get("model")
    if model is None:
        return None
    try:
        find_pipeline(settings, str(model))
        flow.validate_parameters(parameters)
    except LastgoodError as exc:
        return f"Its model cannot be released: {exc}"
    except Exception as exc:  # noqa: BLE001  # Prefect raises what pydantic and the signature give
        return f"Its parameters {parameters} do not fit the flow: {_first_line(exc)}."
    return None


def _first_line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0].rstrip(".")[:300]
