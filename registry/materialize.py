"""A version's files, copied out of the store into a folder of their own, every byte verified on the way."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lastgood.registry.content import Content
from lastgood.registry.errors import ContentMismatchError, FileDamagedError, FileMissingError, FolderNotEmptyError, InvalidSourceError
from lastgood.registry.hashing import hash_file
from lastgood.registry.store.store import SegmentedStore
from lastgood.registry.store.stored_file import StoredFile


def materialize(content: Content, blobs: SegmentedStore, folder: Path) -> Path:
    """
    Make a folder hold exactly a version's files, as copies: what is served must not be the store itself.

    The folder appears whole or not at all. One that is there already is hashed again: it stays if it is right,
    and is made anew if a file of the version is missing or damaged.

    Raises:
        FileMissingError: A stored file is gone.
        FileDamagedError: A stored file does not hash to its name.
        FolderNotEmptyError: The folder holds something that is not the version's.
    """
    if _is_complete(content, folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        fresh, aside = Path(name, "new"), Path(name, "old")
        fresh.mkdir()
        copy_files(content, blobs, fresh)
        # A process that was faster may be reading its folder already: only one that is wrong is moved out of the way.
        if not _rename(fresh, folder) and not _is_complete(content, folder):
            _rename(folder, aside)
            if not _rename(fresh, folder) and not _is_complete(content, folder):
                raise FileDamagedError(f"{folder} was changed while the files of {content.digest} were copied into it. Try again.")
    return folder


def copy_files(content: Content, blobs: SegmentedStore, folder: Path) -> None:
    """
    Copy a version's files into an existing folder, verified and read-only.

    Raises:
        FileMissingError: A stored file is gone; the message names both the version's file and the stored one.
        FileDamagedError: A stored file does not hash to its name.
    """
    for entry in content.files:
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with naming(content.digest, entry.path):
            size = blobs.fetch(entry.sha256, target)
        if size != entry.size:
            raise ContentMismatchError(f"{entry.path} of {content.digest} has {size} bytes; its content says {entry.size}.")
        target.chmod(0o444)


def open_files(content: Content, blobs: SegmentedStore) -> dict[str, StoredFile]:
    """Give a version's files by path, to read parts of; errors as `copy_files`."""
    files = {}
    for entry in content.files:
        with naming(content.digest, entry.path):
            files[entry.path] = blobs.open(entry.sha256)
    return files


@contextmanager
def naming(digest: str, path: str) -> Iterator[None]:
    """Say in a stored file's error which version's file it is."""
    try:
        yield
    except (FileMissingError, FileDamagedError) as exc:
        raise type(exc)(f"{path} of {digest}: {exc}") from exc


def _is_complete(content: Content, folder: Path) -> bool:
    """Say whether a folder holds exactly the version's files; refuse one that holds anything else."""
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise FolderNotEmptyError(f"{folder} is not a folder; expected one, or a path where one can be made.")
        return False
    wanted = {entry.path: entry for entry in content.files}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
    if foreign := sorted(found - wanted.keys()):
        raise FolderNotEmptyError(
            f"{folder} holds {foreign[0]!r}, which is no file of {content.digest}; "
            "expected an empty folder, or one with this version's files."
        )
    return found == wanted.keys() and all(_matches(folder / path, entry.sha256) for path, entry in wanted.items())


def _matches(path: Path, sha256: str) -> bool:
    try:
        # A link could point into the store, or be turned to other bytes after it was hashed.
        return stat.S_ISREG(path.lstat().st_mode) and path.lstat().st_nlink == 1 and hash_file(path)[0] == sha256
    except (InvalidSourceError, OSError):
        return False


def _rename(source: Path, target: Path) -> bool:
    """Rename a folder onto nothing or an empty folder; give False where the target has something in it."""
    try:
        os.replace(source, target)  # noqa: PTH105  os.replace is the documented atomic call
    except OSError as exc:
        if exc.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        return False
    return True
