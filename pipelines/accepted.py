"""By which policy a version is rolled out: the model's, with what the gate accepted of this version."""

from collections.abc import Mapping
from typing import Any

from lastgood.monitoring.predictions.accuracy import find_accuracy
from lastgood.pipelines.deploy import find_policy
from lastgood.pipelines.errors import PipelineNotFoundError
from lastgood.pipelines.find import find_pipeline
from lastgood.pipelines.gate_settings import GateSettings, read_gate
from lastgood.registry.content import Record
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.settings import Settings


def accept_disagreement(policy: RolloutPolicy, record: Record, live: str | None) -> RolloutPolicy:
    """
    Give the policy with the disagreement in shadow that the gate accepted, unless it names one itself.

    The gate let the version pass although it answered some evaluation rows otherwise than the live one. Twice the upper end of
    that part's interval is accepted of production, whose rows are others; more is judged.

    Args:
        policy: The model's.
        record: The version's, with what the gate measured.
        live: Digest of the live version now; where the gate compared with another one, nothing is known.
    """
    agreement, rows = record.metrics.get("live_agreement"), record.metrics.get("evaluation_rows")
    if policy.accepted_disagreement is not None or agreement is None or not rows or live is None or record.parent != live:
        return policy
    found = find_accuracy(round(rows), round(rows * (1 - agreement)))
    return policy if found is None else policy.model_copy(update={"accepted_disagreement": min(0.5, 2 * found.high)})


def accept_accuracy(policy: RolloutPolicy, gate: GateSettings) -> RolloutPolicy:
    """Give the policy with the gate's floor for labelled accuracy, unless it names one itself."""
    return policy if policy.accuracy_floor is not None else policy.model_copy(update={"accuracy_floor": gate.accuracy_floor})


def policy_for(settings: Settings, registry: Registry, version: Version) -> RolloutPolicy:
    """
    Give the policy by which a version is rolled out.

    Raises:
        ConfigurationError: A value is not valid.
    """
    model = version.model
    live = registry.aliases(model).get("live")
    policy = accept_disagreement(find_policy(settings, model), registry.record(version.digest, model=model), live.digest if live else None)
    try:
        own: GateSettings | Mapping[str, Any] = find_pipeline(settings, model).pipeline.gate
    except PipelineNotFoundError:  # it was imported
        own = {}
    overrides = settings.models[model].gate if model in settings.models else {}
    return accept_accuracy(policy, read_gate(own, overrides, model=model))
