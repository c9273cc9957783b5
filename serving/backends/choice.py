"""Which place replicas run in, by the settings."""

from lastgood.serving.backends.process import ProcessBackend
from lastgood.serving.backends.replica import Backend
from lastgood.settings import Settings


def make_backend(settings: Settings) -> Backend:
    """Make the place that the settings name; nothing is asked of it yet."""
    if settings.backend == "docker":
        from lastgood.serving.backends.docker_backend import DockerBackend

        return DockerBackend(settings.docker, settings.home / "gateway" / "replicas")
    return ProcessBackend()
