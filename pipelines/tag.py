"""A version's name on its commit: an annotated tag ``digits@7`` that says the digest."""

import subprocess
from pathlib import Path
from typing import Final

from lastgood.errors import ConflictError, UsageError
from lastgood.pipelines.run import Run, note_changes
from lastgood.registry.rows import Version

_SECONDS: Final = 30


class NotTaggableError(UsageError):
    """The run has no commit that its version could be named on."""

    code = "pipelines.not-taggable"


class TagTakenError(ConflictError):
    """The version's name is on another commit already, or says another digest."""

    code = "pipelines.tag-taken"


def check_taggable(run: Run) -> None:
    """
    Make sure that a run is of a commit, and of that alone; asked before anything is registered.

    Raises:
        NotTaggableError: The run was made outside git, or with changes that are in no commit.
    """
    facts = note_changes(run).facts
    if facts.commit is None:
        raise NotTaggableError(f"Run {run.id} has no commit to tag: it was made outside git. Leave --tag away, or train in a clone.")
    if facts.dirty is not False:
        raise NotTaggableError(
            f"Run {run.id} was made with changes on top of commit {facts.commit[:12]}: that commit is not what was tested. "
            "Commit them and train again, or leave --tag away."
        )


def tag_commit(run: Run, version: Version) -> str:
    """
    Tag the run's commit with the version's name, annotated with its digest; the same tag twice is one.

    Returns:
        The tag's name.

    Raises:
        TagTakenError: The tag exists and says something else.
        NotTaggableError: Git refuses; with its own words.
    """
    project, name, commit = run.settings.project, str(version), str(run.facts.commit)
    message = f"{version} {version.digest}"
    taken = _git(project, "for-each-ref", "--format=%(*objectname) %(contents:subject)", f"refs/tags/{name}")
    if taken:
        if taken.split(maxsplit=1) != [commit, message]:
            raise TagTakenError(
                f"The tag {name} exists and says {taken!r}; expected {commit[:12]}… {message!r}. Another registry numbered the same? "
                f"Look at it with `git show {name}`."
            )
        return name
    # Whoever registers is named; on a CI agent git often knows nobody.
    known = _git(project, "config", "user.email")
    identity = () if known else ("-c", f"user.name={run.facts.author}", "-c", "user.email=lastgood@localhost")
    done = _run(project, *identity, "tag", "--annotate", "--message", message, name, commit)
    if done.returncode != 0:
        raise NotTaggableError(f"{version} is registered, but git did not tag {commit[:12]}: {done.stderr.strip()}")
    return name


def _git(project: Path, *arguments: str) -> str:
    done = _run(project, *arguments)
    return done.stdout.strip() if done.returncode == 0 else ""


def _run(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, check=False, timeout=_SECONDS)
