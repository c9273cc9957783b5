"""An installation's stored files: where they lie, and the key that they are encrypted under."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from lastgood.registry import keys
from lastgood.registry.store.objects import Objects
from lastgood.registry.store.places import open_objects, open_store
from lastgood.registry.store.store import SegmentedStore
from lastgood.settings import Settings


class StoredFiles:
    """Opened when they are needed: for most commands no bucket is connected, and no key unlocked."""

    def __init__(self, settings: Settings, lock: Callable[[], AbstractContextManager[object]]) -> None:
        """
        Use the place and the key of the settings.

        Args:
            settings: The installation's.
            lock: Gives what only one process holds.

        Raises:
            FilesUnsupportedError: The URL of the files names no place.
            KeyUnusableError: The encryption key is none.
        """
        self.objects: Objects = open_objects(settings.files_place)  # as they lie there
        self.key = keys.read_key(settings.encryption_key_file)
        self._lock = lock

    @cached_property
    def store(self) -> SegmentedStore:
        """Give the files; errors as `keys.unlock`."""
        return open_store(keys.unlock(self.objects, self.key, self._lock))

    def rotate(self, fresh: Path) -> None:
        """Encrypt them under the key in a file from now on; errors as `keys.rotate`."""
        keys.rotate(self.objects, self.key, keys.read_key(fresh))
