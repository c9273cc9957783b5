"""
A version's content: what its digest is the hash of.

Content is the files, what goes in and out, how requests may be batched, the golden examples and the drift
reference. Whatever people say about a version (metrics, parameters, author, why) is a `Record`: events on the
digest, so that a new description does not revive a bad file.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

import msgspec
import rfc8785

from lastgood.errors import IntegrityError
from lastgood.tensors import TensorSpec

_SHA256 = re.compile(r"[0-9a-f]{64}")
FORMAT = "lastgood/content/1"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a version: its path inside the version, size in bytes, and SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Golden:
    """Examples with the answers the tested file gave: an NPZ file with ``in/NAME`` and ``out/NAME`` arrays of the same rows."""

    file: str
    rtol: float
    atol: float


@dataclass(frozen=True, slots=True)
class Content:
    """
    What is immutable about a version.

    ``batching`` says along which axis requests may be joined: 0, or None where each request runs alone.
    """

    files: tuple[FileEntry, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batching: Literal[0] | None
    golden: Golden | None = None
    drift: str | None = None  # the file with the reference profile
    model: str = "model.onnx"

    def __post_init__(self) -> None:
        """Refuse what could escape a folder or name a file twice."""
        paths = [entry.path for entry in self.files]
        for entry in self.files:
            check_path(entry.path)
            if not _SHA256.fullmatch(entry.sha256) or entry.size < 0:
                raise IntegrityError(
                    f"File {entry.path!r} has SHA-256 {entry.sha256!r} and size {entry.size}; expected 64 hex digits and 0 or more."
                )
        if paths != sorted(set(paths)):
            raise IntegrityError(f"Files must be listed once each and sorted by path; got {paths}.")
        if inside := [path for path in paths if set(map(str, PurePosixPath(path).parents)) & set(paths)]:
            raise IntegrityError(f"{inside[0]!r} lies in a folder that is itself listed as a file.")
        if self.batching not in (0, None) or isinstance(self.batching, bool):
            raise IntegrityError(f"Batching is {self.batching!r}; expected 0 (requests may be joined along the first axis) or null.")
        needed = {self.model, *([self.golden.file] if self.golden else []), *([self.drift] if self.drift else [])}
        if missing := needed - set(paths):
            raise IntegrityError(f"The content names {sorted(missing)} but lists only {paths}.")

    @property
    def digest(self) -> str:
        """``sha256:`` and the SHA-256 of the canonical JSON (RFC 8785) of this content."""
        return f"sha256:{hashlib.sha256(self.to_bytes()).hexdigest()}"

    def to_bytes(self) -> bytes:
        """Give the canonical JSON that the digest is taken of."""
        return rfc8785.dumps(
            {
                "format": FORMAT,
                "model": self.model,
                "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in self.files],
                "inputs": [spec.to_json() for spec in self.inputs],
                "outputs": [spec.to_json() for spec in self.outputs],
                "batching": self.batching,
                "golden": None if self.golden is None else {"file": self.golden.file, "rtol": self.golden.rtol, "atol": self.golden.atol},
                "drift": self.drift,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, *, digest: str | None = None) -> "Content":
        """
        Read what `to_bytes` wrote.

        Args:
            data: Canonical JSON.
            digest: What it must hash to, when known.

        Raises:
            IntegrityError: It hashes to something else, or is not such a content.
        """
        actual = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if digest is not None and actual != digest:
            raise IntegrityError(f"The content recorded as {digest} hashes to {actual}: it was changed after it was registered.")
        try:
            value = msgspec.json.decode(data)
            if value["format"] != FORMAT:
                raise IntegrityError(f"The content is of format {value['format']!r}; this lastgood reads {FORMAT!r}.")
            golden = value["golden"]
            content = cls(
                files=tuple(FileEntry(f["path"], f["size"], f["sha256"]) for f in value["files"]),
                inputs=tuple(map(TensorSpec.from_json, value["inputs"])),
                outputs=tuple(map(TensorSpec.from_json, value["outputs"])),
                batching=value["batching"],
                golden=None if golden is None else Golden(golden["file"], float(golden["rtol"]), float(golden["atol"])),
                drift=value["drift"],
                model=value["model"],
            )
            # Another spelling of the same content, or more in it than this reads, would have two digests.
            if digest is not None and content.to_bytes() != data:
                raise IntegrityError(
                    f"The content recorded as {digest} is not written as canonical JSON, or holds more than {FORMAT!r} has."
                )
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as exc:
            raise IntegrityError(f"Not a version's content: {exc!r}.") from exc
        return content


@dataclass(frozen=True, slots=True)
class Record:
    """What is said about a digest when it is registered; the lineage of a version. All JSON values."""

    author: str
    why: str
    commit: str | None = None
    dirty: bool | None = None  # whether the work tree differed from the commit
    data: str | None = None  # fingerprint of the data set
    seed: int | None = None
    parent: str | None = None  # digest of the version that was live when this one was made
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None


def check_path(path: str) -> str:
    """
    Give a file's path inside a version back if it stays inside.

    Raises:
        IntegrityError: It is absolute, empty, has ``..``, a backslash, a control character or no valid Unicode, or is
            longer than 1024 characters or 255 bytes in one part.
    """
    parts = PurePosixPath(path).parts
    bad = not path or len(path) > 1024 or path.startswith("/") or ".." in parts or "\\" in path or str(PurePosixPath(path)) != path
    bad = bad or path == "." or any(ord(character) < 32 or "\ud800" <= character <= "\udfff" for character in path)
    if bad or any(len(part.encode()) > 255 for part in parts):
        raise IntegrityError(f"{path[:80]!r} is no path inside a version: expected a relative path with forward slashes and no '..'.")
    return path
