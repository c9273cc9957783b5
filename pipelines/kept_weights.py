"""
The weights a version was trained to, beside it: ``<home>/registry/weights/DIGEST/SHA256.npz``.

They are no part of its content. A version serves without them; only an incremental update needs them. Each file is named by
its hash and is not believed when it is read.
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Final

from lastgood.errors import NotFoundError
from lastgood.pipelines.run import runs_folder
from lastgood.registry.content import Record
from lastgood.settings import Settings

WEIGHTS: Final = "train/weights.npz"  # in a run's folder
_FOLDER: Final = "weights"
_ADVICE: Final = 'Train again from the start instead: policy = "full".'


class WeightsGoneError(NotFoundError):
    """A version's trained weights are not kept any more, or never were."""

    code = "pipelines.weights-gone"


def keep_weights(settings: Settings, digest: str, weights: Path) -> Path | None:
    """Keep a copy of the weights that a run trained; give it, None where the run has none: its model cannot be continued."""
    if not weights.is_file():
        return None
    folder = _folder_of(settings, digest)
    kept = folder / f"{_hash(weights)}.npz"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_name(f".{kept.name}.{os.getpid()}")
        shutil.copyfile(weights, fresh)
        fresh.replace(kept)
    return kept


def find_weights(settings: Settings, name: str, digest: str, record: Record) -> Path:
    """
    Give the file with a version's trained weights.

    Args:
        settings: The project.
        name: The version, for the message.
        digest: Its digest.
        record: Its record; one that was registered before weights were kept has them in its run's folder, if that is still there.

    Raises:
        WeightsGoneError: They are not kept, or not what was kept.
    """
    kept = sorted(_folder_of(settings, digest).glob("*.npz"))
    sound = [file for file in kept if _hash(file) == file.stem]
    if sound:
        return sound[0]
    if kept:
        raise WeightsGoneError(f"The weights of {name} in {kept[0].parent} are damaged: their hash is another one. {_ADVICE}")
    if record.run is None:
        raise WeightsGoneError(f"{name} was imported: what it was trained to is not known here. {_ADVICE}")
    own = runs_folder(settings) / record.run / WEIGHTS
    if not own.is_file():
        raise WeightsGoneError(
            f"The weights of {name} are not kept: neither in {_folder_of(settings, digest)} nor in its run {record.run}. "
            f"Some models have none: a forest cannot be trained further. {_ADVICE}"
        )
    return own


def _folder_of(settings: Settings, digest: str) -> Path:
    return settings.home / "registry" / _FOLDER / digest.removeprefix("sha256:")


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
