"""The weights a version was trained to, as an incremental update gets them: from the registry, or from the run that made the version."""

import shutil
from pathlib import Path
from typing import Final

from lastgood.errors import IntegrityError, NotFoundError
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version

WEIGHTS: Final = "train/weights.npz"  # in a run's folder
_ADVICE: Final = 'Train again from the start instead: policy = "full".'


class WeightsGoneError(NotFoundError):
    """A version's trained weights are not kept any more, or never were."""

    code = "pipelines.weights-gone"


def fetch_weights(registry: Registry, runs: Path, version: Version, destination: Path) -> None:
    """
    Copy a version's trained weights into a new file.

    Args:
        registry: Where they are kept.
        runs: The folder of runs; a version that was registered before weights were kept has them in its run, if that is still there.
        version: Whose.
        destination: The file.

    Raises:
        WeightsGoneError: They are not kept, or not what was kept.
    """
    try:
        if registry.fetch_weights(version.digest, destination):
            return
    except IntegrityError as exc:
        raise WeightsGoneError(f"The weights of {version} are damaged: {exc} {_ADVICE}") from exc
    run = registry.record(version.digest, model=version.model).run
    if run is None:
        raise WeightsGoneError(f"{version} was imported: what it was trained to is not known here. {_ADVICE}")
    own = runs / run / WEIGHTS
    if not own.is_file():
        raise WeightsGoneError(
            f"The weights of {version} are not kept: neither in the registry nor in its run {run}. "
            f"Some models have none: a forest cannot be trained further. {_ADVICE}"
        )
    shutil.copyfile(own, destination)
