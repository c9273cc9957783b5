"""Where the stored files are, by the setting `files`: a folder, or a URL."""

from pathlib import Path
from typing import Final

from lastgood.registry.store.objects import FolderObjects
from lastgood.registry.store.remote_objects import FsspecObjects
from lastgood.registry.store.store import SegmentedStore

_REMOTE_WORKERS: Final = 16  # most of the time of each goes by waiting for the answer


def open_store(place: str) -> SegmentedStore:
    """
    Give the file store of a place; a folder is made where it is missing, a URL is not asked yet.

    Raises:
        FilesUnsupportedError: The URL names no place.
    """
    folder = place.removeprefix("file://")
    if "://" not in folder:
        return SegmentedStore(FolderObjects(Path(folder)))
    return SegmentedStore(FsspecObjects(place), workers=_REMOTE_WORKERS)
