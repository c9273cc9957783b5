"""
Versions that come and go: an exported folder, or an ONNX file from somewhere else.

An exported folder holds the version's files, ``content.json`` (the canonical JSON whose SHA-256 is the digest) and
``record.json``. Importing it gives the same digest.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfile
from typing import Any, Final, Literal

import msgspec
import numpy as np

from lastgood.errors import IntegrityError
from lastgood.registry import golden
from lastgood.registry.content import Content, FileEntry, Golden, Record
from lastgood.registry.errors import ContentMismatchError, FolderNotEmptyError, InvalidSourceError
from lastgood.registry.hashing import hash_file
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.runtime import UnsupportedModelError, open_session, read_signature
from lastgood.tensors import TensorSpec

CONTENT_FILE: Final = "content.json"
RECORD_FILE: Final = "record.json"
GOLDEN_FILE: Final = "golden.npz"
MODEL_FILE: Final = "model.onnx"
DOCUMENT_LIMIT_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import would register or did: the digest, the version once there is one, and what a person should know."""

    digest: str
    version: Version | None
    notes: tuple[str, ...]


def export_version(registry: Registry, digest: str, folder: Path, *, model: str | None = None) -> list[str]:
    """
    Write a version's files, content and record (that of one model, or the first) into an empty or new folder; give the names written.

    Raises:
        FolderNotEmptyError: The folder holds something already.
        VersionNotFoundError: No version has this digest.
        IntegrityError: A stored file is gone or damaged.
    """
    check_export_folder(folder)
    content, record = registry.content(digest), registry.record(digest, model=model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        fresh = Path(name, "new")
        fresh.mkdir()
        registry.copy_files(digest, fresh)
        (fresh / CONTENT_FILE).write_bytes(content.to_bytes())
        (fresh / RECORD_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
        fresh.replace(folder)
    return [*(entry.path for entry in content.files), CONTENT_FILE, RECORD_FILE]


def check_export_folder(folder: Path) -> None:
    """
    Refuse a path that an export cannot become.

    Raises:
        FolderNotEmptyError: It is a folder with something in it, or no folder.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise FolderNotEmptyError(f"{folder} is not empty; expected a new or an empty folder. Nothing was written.")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FolderNotEmptyError(f"{folder} is not a folder; expected a new or an empty one. Nothing was written.")


def import_path(registry: Registry, path: Path, *, model: str, actor: str, why: str | None = None, dry_run: bool = False) -> Imported:
    """
    Register an ONNX file, or a folder made by `export_version`.

    Args:
        registry: Where to.
        path: The file or folder.
        model: The model's name.
        actor: Who imports it.
        why: The reason; by default the exported record's, or the file's name.
        dry_run: Check everything and register nothing.

    Raises:
        InvalidSourceError: There is no such file or folder, or it is neither.
        ContentMismatchError: A file of the folder is not the one its content lists.
        UnsupportedModelError: ONNX Runtime cannot load the file.
    """
    if path.is_dir():
        return _import_folder(registry, path, model=model, actor=actor, why=why, dry_run=dry_run)
    if not path.is_file():
        raise InvalidSourceError(f"{path} does not exist; expected an ONNX file or a folder made by `lastgood export`.")
    return _import_file(registry, path, model=model, actor=actor, why=why, dry_run=dry_run)


def _import_folder(registry: Registry, folder: Path, *, model: str, actor: str, why: str | None, dry_run: bool) -> Imported:
    try:
        content = Content.from_bytes(_read_document(folder, CONTENT_FILE))
        record = msgspec.json.decode(_read_document(folder, RECORD_FILE), type=Record)
    except msgspec.MsgspecError as exc:
        raise InvalidSourceError(f"{folder / RECORD_FILE} is no version's record: {exc}.") from exc
    files = {entry.path: folder / entry.path for entry in content.files}
    for entry in content.files:
        if hash_file(files[entry.path]) != (entry.sha256, entry.size):
            raise ContentMismatchError(f"{files[entry.path]} is not the file that {CONTENT_FILE} lists: its bytes were changed.")
    if why is not None:
        record = replace(record, why=why)
    version = None if dry_run else registry.register(model, content, files, record, actor=actor)
    return Imported(content.digest, version, ())


def _import_file(registry: Registry, path: Path, *, model: str, actor: str, why: str | None, dry_run: bool) -> Imported:
    # What is loaded here is the copy that is registered, alone: a file whose weights lie beside it fails now, not when it is served.
    with tempfile.TemporaryDirectory(prefix="lastgood-import-") as name:
        folder = Path(name)
        try:
            copyfile(path, folder / MODEL_FILE)
        except OSError as exc:
            raise InvalidSourceError(f"{path} cannot be read: {exc.strerror}.") from exc
        try:
            content, notes = describe_model(folder)
        except UnsupportedModelError as exc:
            # A person knows the file by the name they gave.
            reason = str(exc).replace(str(folder / MODEL_FILE), str(path)).replace(str(folder), "the copy's folder")
            raise UnsupportedModelError(
                f"{path} is not imported. {reason} It is loaded alone, as it would be served: "
                "weights kept in another file must be saved into it."
            ) from exc
        record = Record(author=actor, why=why or f"imported from {path.name}")
        files = {entry.path: folder / entry.path for entry in content.files}
        version = None if dry_run else registry.register(model, content, files, record, actor=actor)
    return Imported(content.digest, version, tuple(notes))


def describe_model(folder: Path) -> tuple[Content, list[str]]:
    """
    Load ``model.onnx`` of a folder, write golden examples beside it where they can be made up, and give its content.

    Returns:
        The content, and sentences about what could not be found out.

    Raises:
        UnsupportedModelError: ONNX Runtime cannot load it, or it takes or gives what the protocol has no name for.
    """
    session = open_session(folder / MODEL_FILE)
    inputs, outputs = read_signature(session)
    varies = all(spec.shape[:1] == (-1,) for spec in (*inputs, *outputs))
    batching: Literal[0] | None = 0 if varies else None
    notes = []
    feeds = golden.make_inputs(inputs, rows=golden.ROWS if varies else 1)
    answers = None if feeds is None else _run(session, feeds, outputs)
    kept = None
    if feeds is None or answers is None:
        notes.append("No golden examples: none can be made up for these inputs, so a replica's answers are not checked when it starts.")
    elif not golden.agree(answers, _run(session, feeds, outputs) or {}, rtol=golden.RTOL, atol=golden.ATOL):
        notes.append("No golden examples: the model gives other answers to the same inputs, or some that are not finite.")
    else:
        if varies and not golden.agree(answers, _run_by_row(session, feeds, outputs), rtol=golden.RTOL, atol=golden.ATOL):
            batching = None
            notes.append("Requests are not joined into batches: the answers to one row depend on the rows beside it.")
        golden.write_golden(folder / GOLDEN_FILE, feeds, answers)
        kept = Golden(GOLDEN_FILE, golden.RTOL, golden.ATOL)
    names = sorted([MODEL_FILE, *([GOLDEN_FILE] if kept else [])])
    entries = [FileEntry(name, size, sha256) for name in names for sha256, size in [hash_file(folder / name)]]
    return Content(tuple(entries), inputs, outputs, batching, golden=kept), notes


def _run(session: Any, feeds: golden.Arrays, outputs: tuple[TensorSpec, ...]) -> dict[str, np.ndarray[Any, Any]] | None:
    """Give the answers by name; None where there are none that a file can hold."""
    try:
        answers = session.run([spec.name for spec in outputs], dict(feeds))
    except Exception:  # noqa: BLE001  ONNX Runtime's errors share no public base; a model may refuse made-up inputs
        return None
    if any(not isinstance(answer, np.ndarray) or answer.dtype == object for answer in answers):
        return None
    return {spec.name: answer for spec, answer in zip(outputs, answers, strict=True)}


def _run_by_row(session: Any, feeds: golden.Arrays, outputs: tuple[TensorSpec, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """Give the answers to one row at a time, joined; nothing where a single row is refused."""
    rows = [_run(session, {name: array[i : i + 1] for name, array in feeds.items()}, outputs) for i in range(golden.ROWS)]
    if any(row is None or any(answer.shape[:1] != (1,) for answer in row.values()) for row in rows):
        return {}
    return {spec.name: np.concatenate([row[spec.name] for row in rows if row is not None]) for spec in outputs}


def _read_document(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        if path.stat().st_size > DOCUMENT_LIMIT_BYTES:
            raise IntegrityError(f"{path} has more than {DOCUMENT_LIMIT_BYTES} bytes; a version's {name} is never so large.")
        return path.read_bytes()
    except OSError as exc:
        raise InvalidSourceError(f"{folder} is no exported version: {name} cannot be read ({exc.strerror}).") from exc
