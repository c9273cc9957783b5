"""Where the stored files are, by the setting `files`: a folder, or a URL."""

from pathlib import Path
from typing import Final

from lastgood.registry.store.objects import FolderObjects, Objects
from lastgood.registry.store.remote_objects import FsspecObjects
from lastgood.registry.store.store import SegmentedStore

_REMOTE_WORKERS: Final = 16  # most of the time of each goes by waiting for the answer


def open_objects(place: str) -> Objects:
    """
    Give the objects of a place; a folder is made where it is missing, a URL is not asked yet.

    Raises:
        FilesUnsupportedError: The URL names no place.
    """
    folder = place.removeprefix("file://")
    return FsspecObjects(place) if "://" in folder else FolderObjects(Path(folder))


def open_store(objects: Objects) -> SegmentedStore:
    """Give the file store of objects, with as many workers as they can use."""
    return SegmentedStore(objects, workers=None if objects.is_here else _REMOTE_WORKERS)
