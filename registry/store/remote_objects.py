"""
Pieces of bytes in a place that fsspec knows by URL: a bucket of S3 or Google Cloud Storage, HDFS, and others.

Nothing is connected, and no driver imported, before the first piece is read or written: most commands need none. Credentials and endpoints
are the driver's to find, as its other users keep them; they are never part of a message.
"""

import contextlib
import errno
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from lastgood.registry.errors import FileMissingError, FilesUnavailableError, FilesUnsupportedError
from lastgood.registry.store.objects import ABANDONED_SECONDS, INCOMING, check_name

# Where an object appears whole or not at all by itself, with what the driver is told: no memory of listings, which others change, and how
# long it tries. An attempt of s3fs is three of botocore's. Checksums that S3 itself does not ask for are left out: other servers refuse
# them, or give the whole object's with a part of it, and every object here has its own.
_S3: Final = {
    "use_listings_cache": False,
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 30,
        "retries": {"mode": "standard", "total_max_attempts": 3},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    },
}
_UNLISTED: Final = {"use_listings_cache": False}
_WHOLE: Final[Mapping[str, Mapping[str, Any]]] = {
    **dict.fromkeys(("s3", "s3a"), _S3),
    **dict.fromkeys(("gs", "gcs", "az", "abfs", "abfss"), _UNLISTED),
    "memory": {},
}
_BUCKETS: Final = _WHOLE.keys() - {"memory"}
_S3_ATTEMPTS: Final = 3
_TEXT_CHARS: Final = 240
_WRITTEN: Final = ("LastModified", "mtime", "updated", "last_modified", "created")  # the drivers' names for the same thing
_EXTRAS: Final = {"s3": "s3", "s3a": "s3"}
_SECRET: Final = re.compile(r"(?<=://)[^/@\s]*@|\?[^\s\"']*")


def mask(text: str) -> str:
    """Give a text without the user information and the queries of the URLs in it, where credentials are."""
    return _SECRET.sub(lambda found: "***@" if found[0].endswith("@") else "?***", text)


class FsspecObjects:
    """
    Objects below a URL; threads and processes on many machines may share it.

    On object stores one PUT, or the end of one upload in parts, makes an object appear whole, and once answered it survives a power cut.
    On all others it is written under `incoming/` and renamed: HDFS, SFTP and what is like a local disk have a rename that is one step. A
    place with neither is not fit. fsspec has no way to ask those for a sync: a power cut right after `settle` may cost what their servers
    had not written to their disks (HDFS: set dfs.datanode.synconclose).
    """

    is_here = False

    def __init__(self, url: str) -> None:
        """
        Use the place, without connecting to it yet.

        Raises:
            FilesUnsupportedError: The URL names no place.
        """
        scheme, separator, rest = url.partition("://")
        self._url, self._scheme = url.rstrip("/"), scheme
        self._shown = mask(self._url)
        if not scheme or not separator or "::" in url or not rest.strip("/"):
            raise FilesUnsupportedError(
                f"The setting `files` is {self._shown!r}; expected a folder or one URL of a place, such as s3://BUCKET/PREFIX."
            )
        self._lock = threading.Lock()
        self._opened: tuple[Any, str] | None = None  # the file system, and the path in it
        self._container_found = False

    def write(self, name: str, data: bytes) -> None:
        """
        Write an object whole, in the place of one that may be there.

        Raises:
            FilesUnavailableError: The place does not answer, does not exist, or refuses.
        """
        check_name(name)
        with self._seam():
            system, root = self._open()
            if self._scheme in _WHOLE:
                system.pipe_file(f"{root}/{name}", data)
            else:
                _write_and_rename(system, f"{root}/{INCOMING}", f"{root}/{name}", data)

    def settle(self) -> None:
        """Nothing is left to do: what was written was answered for."""

    def read(self, name: str, first: int | None = None) -> bytes:
        """
        Read an object whole, or so many of its first bytes.

        Raises:
            FileMissingError: There is none.
            FilesUnavailableError: The place does not answer, does not exist, or refuses.
        """
        data = self._read(name, first)
        if data is None:
            raise FileMissingError(f"The stored file {self.locate(name)} is gone. Put it back from a backup or a replica.")
        return data

    def read_kept(self, name: str) -> tuple[str, bytes]:
        """Give an object as it lies there: under which name, and its bytes. Errors as `read`."""
        return name, self.read(name)

    def exists(self, name: str) -> bool:
        """Say whether there is such an object, by its first byte; errors as `write`."""
        return self._read(name, 1) is not None

    def measure(self, name: str) -> tuple[int, float] | None:
        """Give an object's bytes and the time it was written, in seconds since 1970; None where there is none. Errors as `write`."""
        check_name(name)
        with self._seam():
            system, root = self._open()
            try:
                found = system.info(f"{root}/{name}")
            except FileNotFoundError:
                return None
            if found["type"] != "file":  # what is removed just now is told as a folder
                return None
            # Not `modified`: that asks again, and it may be gone by then.
            written = next(found[key] for key in _WRITTEN if found.get(key) is not None)
            return int(found["size"]), _read_time(written)

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error. Errors as `write`."""
        for name in names:
            check_name(name)
        with self._seam():
            system, root = self._open()
            if self._scheme in _BUCKETS:
                system.rm([f"{root}/{name}" for name in names])  # some hundreds with one request
                return
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    system.rm_file(f"{root}/{name}")

    def iterate(self, prefix: str) -> Iterator[str]:
        """Give the names of all objects below a prefix, sorted; errors as `write`, and then it gives none."""
        check_name(prefix)
        with self._seam():
            system, root = self._open()
            top = f"{root}/{prefix}"
            if self._scheme in _WHOLE:
                found = system.find(top)
            else:
                system.invalidate_cache()
                found = _walk(system, top)
        yield from sorted(path[len(root) + 1 :] for path in found)

    def locate(self, name: str) -> str:
        """Give the URL, without credentials."""
        return f"{self._shown}/{name}"

    def _read(self, name: str, first: int | None) -> bytes | None:
        check_name(name)
        with self._seam():
            system, root = self._open()
            try:
                # Beginning with 0, or drivers ask for the size before they ask for all.
                return bytes(system.cat_file(f"{root}/{name}", start=0, end=first))
            except FileNotFoundError:
                if not self._has_container(system, root):
                    raise  # a bucket that is not there is not an object that is gone
                return None
            except OSError as exc:
                # Of an object that lost all of its bytes there are no first ones.
                if exc.errno == errno.EINVAL and system.size(f"{root}/{name}") == 0:
                    return b""
                raise

    def _has_container(self, system: Any, root: str) -> bool:
        """Say whether the bucket exists, asked once: most objects that are looked for are new ones."""
        if not self._container_found:
            try:
                self._container_found = self._scheme not in _BUCKETS or system.exists(root.split("/", maxsplit=1)[0])
            except PermissionError:
                self._container_found = True  # who may not list all of it may use a part
        return self._container_found

    def _open(self) -> tuple[Any, str]:
        with self._lock:
            if self._opened is None:
                self._opened = self._connect()
            return self._opened

    def _connect(self) -> tuple[Any, str]:
        import fsspec
        from fsspec.config import conf

        # What the user set for this driver in fsspec's own configuration holds.
        options = {key: value for key, value in _WHOLE.get(self._scheme, {}).items() if key not in conf.get(self._scheme, {})}
        try:
            system, root = fsspec.core.url_to_fs(self._url, **options)
        except (ImportError, ValueError) as exc:
            extra = _EXTRAS.get(self._scheme)
            remedy = f"Install it: pip install 'lastgood[{extra}]'" if extra else "Install the driver that fsspec has for it."
            raise FilesUnsupportedError(f"Files at {self._shown} cannot be used: {_say(exc)}. {remedy}") from exc
        if self._scheme in _EXTRAS:
            system.retries = _S3_ATTEMPTS
        elif self._scheme not in _WHOLE:
            _clear_abandoned(system, f"{root}/{INCOMING}")
        return system, str(root).rstrip("/")

    @contextlib.contextmanager
    def _seam(self) -> Iterator[None]:
        try:
            yield
        except FilesUnsupportedError:
            raise
        except Exception as exc:  # the drivers' errors share no base; nothing but calls of a driver happens inside
            raise FilesUnavailableError(
                f"The files at {self._shown} do not answer: {_say(exc)}. Look at the network and the endpoint, "
                "whether the place exists, and whether the credentials may read, write, list and delete there."
            ) from exc


def _read_time(written: datetime | str | float) -> float:
    """Give the seconds since 1970 of a time as drivers have it; one without a zone is UTC."""
    if isinstance(written, str):
        written = datetime.fromisoformat(written)
    if isinstance(written, datetime):
        return (written if written.tzinfo else written.replace(tzinfo=UTC)).timestamp()
    return float(written)


def _say(exc: Exception) -> str:
    """Give a driver's error as a part of a sentence; some go on for pages."""
    return " ".join(mask(str(exc)).split())[:_TEXT_CHARS].rstrip(".") or type(exc).__name__


def _write_and_rename(system: Any, incoming: str, target: str, data: bytes) -> None:
    fresh = f"{incoming}/{uuid.uuid4().hex}"
    system.makedirs(incoming, exist_ok=True)
    system.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH120  of a path that is not this system's
    try:
        system.pipe_file(fresh, data)
        try:
            system.mv(fresh, target)
        except Exception:
            # Some renames refuse a name that is taken. Then the same bytes, as somebody else wrote them, are as good as these.
            if not system.exists(target):
                raise
            if system.cat_file(target) != data:
                system.rm_file(target)
                system.mv(fresh, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            system.rm_file(fresh)


def _walk(system: Any, top: str) -> list[str]:
    try:
        system.info(top)
    except FileNotFoundError:
        return []
    # Not `find` or `walk`: outside of object stores they leave out what they cannot list.
    found: list[str] = []
    folders = [top]
    while folders:
        for entry in system.ls(folders.pop(), detail=True):
            (folders if entry["type"] == "directory" else found).append(str(entry["name"]))
    return found


def _clear_abandoned(system: Any, incoming: str) -> None:
    """Remove copies that a killed process left unfinished."""
    try:
        left = system.ls(incoming, detail=True)
    except FileNotFoundError:
        return
    for entry in left:
        written = entry.get("mtime")
        seconds = written.timestamp() if isinstance(written, datetime) else written
        if seconds is not None and time.time() - seconds > ABANDONED_SECONDS:
            with contextlib.suppress(FileNotFoundError):
                system.rm_file(entry["name"])
