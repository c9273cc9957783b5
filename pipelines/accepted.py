"""By which policy a version is rolled out: the model's, with what the gate accepted of this version."""

from lastgood.monitoring.predictions.accuracy import find_accuracy
from lastgood.pipelines.deploy import find_policy
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


def policy_for(settings: Settings, registry: Registry, version: Version) -> RolloutPolicy:
    """
    Give the policy by which a version is rolled out.

    Raises:
        ConfigurationError: A value is not valid.
    """
    live = registry.aliases(version.model).get("live")
    record = registry.record(version.digest, model=version.model)
    return accept_disagreement(find_policy(settings, version.model), record, live.digest if live else None)
