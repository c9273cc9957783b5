"""What the gateway's metrics say of a model's drift, and when an update answered it last."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from lastgood.monitoring.signals import names
from lastgood.pipelines.deploy import find_policy
from lastgood.pipelines.run import RunFacts, list_runs, open_run
from lastgood.pipelines.update import read_taken
from lastgood.serving.client import GatewayAwayError, read_token
from lastgood.settings import Settings

_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Drift:
    """Evidence and what it is held against, natural logarithms; and what the drift means, "none" where there is none."""

    evidence: float
    threshold: float
    meaning: str

    @property
    def found(self) -> bool:
        """Whether it is called drift."""
        return self.evidence >= self.threshold


def read_drift(settings: Settings, model: str) -> Drift | None:
    """
    Give what is known of a model's drift; None where nothing looks for it.

    Raises:
        GatewayAwayError: No gateway answers.
    """
    token = read_token(settings.token_file)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        text = httpx.get(f"{settings.control_url}/metrics", headers=headers, timeout=_SECONDS).raise_for_status().text
    except (httpx.TransportError, httpx.HTTPStatusError) as exc:
        raise GatewayAwayError(f"The gateway at {settings.control_url} gives no metrics ({exc}). Start one: lastgood up.") from exc
    return find_drift(text, model)


def find_attempt(settings: Settings, model: str, now: datetime) -> RunFacts | None:
    """
    Give the last run that drift started, if it began within the rollout policy's ``cooldown_seconds``.

    An alarm lasts until the drift is gone; what it asks for once, it is not to ask for every quarter of an hour.
    """
    least = now - timedelta(seconds=find_policy(settings, model).cooldown_seconds)
    for name in reversed(list_runs(settings, model)):
        run = open_run(settings, name)
        if datetime.fromisoformat(run.facts.created) < least:
            return None
        update = read_taken(run)
        if update is not None and update.reason == "drift":
            return run.facts
    return None


def find_drift(text: str, model: str) -> Drift | None:
    """Find a model's drift in metrics in Prometheus' text format."""
    values: dict[str, float] = {}
    meaning = "none"
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("model") == model:
                values[sample.name] = sample.value
                if sample.name == names.DRIFT_MEANING.name and sample.value == 1:
                    meaning = sample.labels["meaning"]
    if not {names.DRIFT_EVIDENCE.name, names.DRIFT_THRESHOLD.name} <= values.keys():
        return None
    return Drift(values[names.DRIFT_EVIDENCE.name], values[names.DRIFT_THRESHOLD.name], meaning)
