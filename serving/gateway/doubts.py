"""What the gateway says at its start about settings that may be, and are more likely a mistake."""

from collections.abc import Collection, Iterator

from lastgood.errors import ConfigurationError
from lastgood.serving.trust import trust
from lastgood.settings import Settings


def list_doubts(settings: Settings, registered: Collection[str]) -> Iterator[str]:
    """
    Give a sentence for each setting that has no effect as things are, or keeps clients out.

    Args:
        settings: The project's.
        registered: Names of the models in the registry.
    """
    known = {*settings.models, *registered}
    for model in sorted(settings.serving.models.keys() - known):
        yield (
            f"[serving.models.{model}] is about a model that has no table [models.{model}] and is not in the registry. "
            f"Known models: {', '.join(sorted(known)) or 'none yet'}."
        )
    if settings.front.ca_file is not None:
        try:
            trust(settings)
        except ConfigurationError as exc:
            yield f"front.ca_file: {exc} Until then no client of this project reaches the gateway."
