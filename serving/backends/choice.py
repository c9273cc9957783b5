"""Which place replicas run in, by the settings."""

from lastgood.serving.backends.process import ProcessBackend
from lastgood.serving.backends.replica import Backend
from lastgood.settings import Settings


def make_backend(settings: Settings) -> Backend:
    """
    Make the place that the settings name; nothing is asked of it yet.

    Raises:
        ProviderMissingError: A list of execution providers names none that is here. What a container has, its replica says.
    """
    if settings.backend == "docker":
        from lastgood.serving.backends.docker_backend import DockerBackend

        return DockerBackend(settings.docker, settings.home / "gateway" / "replicas")
    for providers in settings.serving.list_providers():
        if "cpu" not in providers:
            from lastgood.runtime import choose_providers  # 0.1 s and 30 MB, which most gateways need not spend

            choose_providers(providers)
    return ProcessBackend(spare=settings.serving.spare)
