"""Whether training again now would make what has just failed: asked before a retraining that nobody asked for."""

from datetime import datetime

from lastgood.pipelines.deploy import find_policy
from lastgood.registry.cooldown import Cooldown
from lastgood.registry.registry import Registry
from lastgood.settings import Settings


def find_cooldown(settings: Settings, model: str, commit: str | None, data: str | None, now: datetime) -> Cooldown | None:
    """
    Give the withdrawal that a model is cooling down from, if a version of this commit and data would be the same again.

    The gateway asks the same when a release that says it is automatic is submitted; asking before saves the training.

    Args:
        settings: The project.
        model: Which model; how long it cools down is its rollout policy's ``cooldown_seconds``.
        commit: Of the code that would train; None outside git, where the same data is the same.
        data: Fingerprint of the data set that would be trained on.
        now: An aware time.

    Raises:
        ConfigurationError: The model's rollout policy is not valid.
        CatalogueUnavailableError: The registry does not answer.
    """
    seconds = find_policy(settings, model).cooldown_seconds
    with Registry.open(settings, writer="cli") as registry:
        return registry.find_cooldown(model, commit=commit, data=data, seconds=seconds, now=now)
