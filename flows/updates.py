"""The flow that starts updates: of each model whose schedule says so, or whose drift asks for it; every quarter of an hour."""

from datetime import UTC, datetime, timedelta
from typing import Any

from cronsim import CronSim
from prefect import flow, get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed, State

from lastgood.errors import LastgoodError
from lastgood.flows.retrain import retrain
from lastgood.pipelines.drifted import read_drift
from lastgood.pipelines.update import Reason
from lastgood.pipelines.update_settings import UpdateSettings, read_update
from lastgood.serving.client import GatewayAwayError
from lastgood.settings import Settings, load_settings

EVERY = timedelta(minutes=15)  # as prefect.yaml has it


@flow(name="updates", flow_run_name="updates")
def updates() -> State[Any]:
    """
    Train every model again whose time has come since the last run of this flow was due, or whose inputs drifted.

    Returns:
        What came of each, by model; failed where one failed, after the others had their turn.
    """
    settings = load_settings()
    due = flow_run.scheduled_start_time or datetime.now(UTC)
    ended: dict[str, str] = {}
    failed = []
    for model in sorted(settings.models):
        try:
            reason = find_reason(settings, model, due)
            if reason is None:
                continue
            result = retrain(model, reason=reason)  # waits for the model's slot itself: inside a deployment's run it counts as one
            ended[model] = result["skipped"]["sentence"] if result["skipped"] else f"version {result['version']['number']}"
        except LastgoodError as exc:
            ended[model] = f"{type(exc).__name__}: {exc}"
            failed.append(model)
        get_run_logger().info("%s: %s", model, ended[model])
    message = "; ".join(f"{model}: {what}" for model, what in ended.items()) or "nothing was due"
    return (Failed if failed else Completed)(message=message[:2000], data=ended)


def find_reason(settings: Settings, model: str, due: datetime) -> Reason | None:
    """Say why a model is to be trained again now, if it is."""
    asked = read_update(settings, model)
    if is_due(asked, due):
        return "schedule"
    if not asked.on_drift:
        return None
    try:
        drift = read_drift(settings, model)
    except GatewayAwayError as exc:
        get_run_logger().warning("%s: %s", model, exc)
        return None
    return "drift" if drift is not None and drift.found and drift.meaning == "retrain" else None


def is_due(asked: UpdateSettings, due: datetime) -> bool:
    """Say whether the schedule has a time within the quarter of an hour that ends now."""
    if asked.schedule is None:
        return False
    now = due.astimezone(UTC).replace(tzinfo=None)
    return bool(next(CronSim(asked.schedule, now - EVERY)) <= now)
