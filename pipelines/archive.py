"""
A run as one file, which CI stages on different machines hand to each other.

The file is a tar archive, compressed where its name ends in ``.gz`` or ``.tgz``. It holds the run folder without what belongs
to one machine: the copy of the live version that the gate compares with.
"""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from lastgood.errors import ConflictError, UsageError
from lastgood.pipelines.errors import RunNotFoundError
from lastgood.pipelines.provenance import read_commit
from lastgood.pipelines.run import RUN_FILE, Run, open_model_run, open_run, runs_folder
from lastgood.settings import Settings

_LIVE: Final = ("gate/live", "gate/live.json")
_MEMBERS: Final = 10_000
_BYTES: Final = 16 << 30


class ArchiveError(UsageError):
    """A file that is no run's archive, or holds what none would."""

    code = "pipelines.archive"


class OtherCommitError(ConflictError):
    """The run was made from another commit than the one that is checked out here."""

    code = "pipelines.other-commit"


def is_archive(text: str) -> bool:
    """Say whether a text names a file rather than a run: it has a slash or a suffix."""
    return "/" in text or bool(Path(text).suffix)


@contextmanager
def hand_over(settings: Settings, model: str, run: str | None) -> Iterator[Run]:
    """
    Open a run for one step; one that came as an archive is written back to it, whatever the step said.

    Args:
        settings: The project.
        model: Which model the run must be of.
        run: A run's name, an archive's path, or None for the model's newest run.

    Raises:
        RunNotFoundError: There is none, or it is of another model.
        ArchiveError: The file is no run's archive.
        OtherCommitError: The archive is of another commit than the project has checked out.
    """
    if run is None or not is_archive(run):
        yield open_model_run(settings, model, run)
        return
    archive = Path(run)
    opened = unpack(settings, archive)
    if opened.model != model:
        raise RunNotFoundError(f"{archive} is a run of model {opened.model!r}, not {model!r}.")
    check_commit(opened)
    try:
        yield replace(opened, archive=archive)
    finally:
        pack(opened, archive)


def check_target(archive: Path) -> None:
    """
    Make sure, before the work, that an archive can be written.

    Raises:
        ArchiveError: There is no such folder, or a folder is where the file should be.
    """
    if not archive.parent.is_dir():
        raise ArchiveError(f"{archive} cannot be written: there is no folder {archive.parent}.")
    if archive.is_dir():
        raise ArchiveError(f"{archive} is a folder; expected a file such as {archive}/run.tar.")


def pack(run: Run, archive: Path) -> None:
    """
    Write a run's folder as one archive; an interruption leaves the old file or the new one.

    Raises:
        ArchiveError: The file cannot be written there.
    """
    check_target(archive)
    descriptor, name = tempfile.mkstemp(dir=archive.parent, prefix=f".{archive.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode=_mode(archive)) as tar:
            for path in sorted(run.folder.rglob("*")):
                inside = path.relative_to(run.folder).as_posix()
                if path.is_file() and not any(inside == own or inside.startswith(f"{own}/") for own in _LIVE):
                    tar.add(path, arcname=f"{run.id}/{inside}", recursive=False, filter=_forget_owner)
        temporary.chmod(0o644)
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)


def unpack(settings: Settings, archive: Path) -> Run:
    """
    Put an archive's run among the project's runs, in place of one of the same name.

    Raises:
        RunNotFoundError: There is no such file.
        ArchiveError: It is no archive, or one that holds more than one run's files.
        IntegrityError: Its run.json is damaged.
    """
    if not archive.is_file():
        raise RunNotFoundError(f"There is no archive {archive}: make one with `lastgood train MODEL --run {archive}`.")
    runs = runs_folder(settings)
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs, prefix=".unpacking-") as name:
        fresh = Path(name)
        try:
            with tarfile.open(archive) as tar:
                run = _check(archive, tar)
                tar.extractall(fresh, filter="data")
        except (tarfile.TarError, EOFError, OSError, ValueError) as exc:
            if (
                isinstance(exc, OSError)
                and exc.errno is not None
                and not isinstance(exc, FileExistsError | NotADirectoryError | IsADirectoryError)
            ):
                raise  # a full disk is not the archive's fault
            raise ArchiveError(f"{archive} is no run's archive: {exc}. Expected what `lastgood train --run FILE` writes.") from exc
        found = open_run(settings, fresh / run).facts.run  # damaged facts must not take the place of sound ones
        if found != run:
            raise ArchiveError(f"{archive} holds folder {run!r} with the facts of run {found!r}; it was put together by hand.")
        target = runs / run
        if target.exists():
            shutil.rmtree(target)
        (fresh / run).replace(target)
    return open_run(settings, target)


def _check(archive: Path, tar: tarfile.TarFile) -> str:
    """Give the name of the one run in an archive; the tarfile module refuses paths and links that lead out of it."""
    names: set[str] = set()
    size = 0
    for count, member in enumerate(tar, start=1):
        path = PurePosixPath(member.name)
        size += member.size
        if not member.isfile() or count > _MEMBERS or size > _BYTES or len(path.parts) < 2:
            raise ArchiveError(
                f"{archive} holds {member.name[:80]!r}, {size} bytes in {count} files so far; expected plain files in one folder, "
                f"{_MEMBERS} files and {_BYTES} bytes at most."
            )
        names.add(path.parts[0])
    if len(names) != 1 or f"{next(iter(names))}/{RUN_FILE}" not in tar.getnames():
        raise ArchiveError(f"{archive} holds {sorted(names)[:3]}; expected one run with its {RUN_FILE}.")
    return names.pop()


def check_commit(run: Run) -> None:
    """
    Make sure that a run which came as an archive is of what is checked out here.

    Raises:
        OtherCommitError: It is of another commit.
    """
    here, _ = read_commit(run.settings.project)
    if run.facts.commit is not None and here is not None and here != run.facts.commit:
        raise OtherCommitError(
            f"Run {run.id} was made from commit {run.facts.commit[:12]}, and {here[:12]} is checked out in {run.settings.project}: "
            "what is released must be what was tested. Check the run's commit out, or train again."
        )


def _mode(archive: Path) -> Literal["w:", "w:gz"]:
    return "w:gz" if archive.suffix in {".gz", ".tgz"} else "w:"


def _forget_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
