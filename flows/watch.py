"""The drift report: what production looked like in a window, beside what each live version was tested on; daily, by a schedule."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed, State
from pydantic import Field

from lastgood.errors import NotFoundError
from lastgood.flows.outcome import shown_if_possible
from lastgood.pipelines.drift import compare_window
from lastgood.pipelines.drift_page import write_markdown, write_page
from lastgood.registry.registry import Registry
from lastgood.settings import load_settings


@flow(name="watch", flow_run_name="watch")
def watch(
    model: Annotated[str | None, Field(description="Which model; default: every one with a live version")] = None,
    hours: Annotated[float, Field(gt=0, le=24 * 92, description="How far back; whole days, or a daily rhythm looks like drift")] = 24.0,
    until: Annotated[datetime | None, Field(description="End of the window; default: now")] = None,
    traffic: Annotated[str | None, Field(description="Only rows with this label; default: all")] = None,
) -> State[Any]:
    """
    Compare the prediction log with the live versions' references, publish tables and pictures, and write a page for each model.

    A model without rows or without a reference is said to have none: no data is neither drift nor its absence.

    Returns:
        By model: the features that moved, or why nothing can be said. Drift is no failure of this run; the gateway's monitor alerts.
    """
    settings, log = load_settings(), get_run_logger()
    end = (until or datetime.now(UTC)).astimezone(UTC)
    found: dict[str, list[str] | str] = {}
    with Registry.open(settings, writer="cli") as registry:
        for name in [model] if model else [own for own in registry.models() if "live" in registry.aliases(own)]:
            try:
                report = compare_window(settings, registry, f"{name}@live", since=end - timedelta(hours=hours), until=end, traffic=traffic)
            except NotFoundError as exc:
                found[name] = str(exc)
                log.warning("%s", exc)
                continue
            page = settings.home / "reports" / f"drift-{name}.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(write_page(report), "utf-8")
            with shown_if_possible():
                key = f"{name.replace('_', '-')}-drift"  # Prefect's keys have no underscores
                create_markdown_artifact(write_markdown(report), key=key, description=f"Drift of {report.version}; page: {page}")
            found[name] = report.moved
            log.info("%s Page: %s", report.sentence, page)
    drifted = [name for name, own in found.items() if own and not isinstance(own, str)]
    unknown = [name for name, own in found.items() if isinstance(own, str)]
    message = f"drifted: {', '.join(drifted) or 'none'}; no data: {', '.join(unknown) or 'none'}; looked at {len(found)}"
    return Completed(name="Drifted" if drifted else "Completed", message=message, data=found)
