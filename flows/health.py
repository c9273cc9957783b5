"""The health report: what serves, whether everything recorded is still so, and whether there is room; daily, by a schedule."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, Failed, State

from lastgood.pipelines.health import examine_serving, tabulate
from lastgood.settings import load_settings


@flow(name="health", flow_run_name="health")
def health() -> State[Any]:
    """
    Look at everything that serves and publish the findings; the run fails where something needs a person.

    Returns:
        Counts by status, in a state a person sees at a glance.
    """
    findings = examine_serving(load_settings())
    table = tabulate(findings)
    create_markdown_artifact(table.to_markdown(), key="health", description="What serves, and whether it is well")
    counts = {status: sum(own.status == status for own in findings) for status in ("ok", "warning", "problem")}
    for own in findings:
        if own.status != "ok":
            get_run_logger().warning("%s: %s", own.name, own.sentence)
    problems = [f"{own.name}: {own.sentence}" for own in findings if own.status == "problem"]
    if problems:
        return Failed(message=" ".join(problems)[:2000], data=counts)
    return Completed(message=f"{counts['ok']} well, {counts['warning']} to look at", data=counts)
