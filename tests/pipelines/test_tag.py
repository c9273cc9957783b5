"""A version's name on its commit."""

import subprocess
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from lastgood.pipelines.conditions import Measurements, Score, examine
from lastgood.pipelines.gate_settings import GateSettings
from lastgood.pipelines.run import Run, create_run
from lastgood.pipelines.tag import NotTaggableError, TagTakenError, check_taggable, tag_commit
from lastgood.registry.rows import Version
from lastgood.settings import Settings

DIGEST = f"sha256:{'ab' * 32}"


def git(project: Settings, *arguments: str) -> str:
    command = ["git", "-C", str(project.project), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(project: Settings) -> str:
    git(project, "init", "-q")
    (project.project / ".gitignore").write_text(".lastgood\n", "utf-8")
    git(project, "add", ".")
    git(project, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "--allow-empty", "-m", "one")
    return git(project, "rev-parse", "HEAD")


def version(run: Run, number: int = 7, digest: str = DIGEST) -> Version:
    return Version(run.model, number, digest, datetime.now(UTC), "ada", new=True)


def test_a_version_is_an_annotated_tag_that_says_its_digest(project: Settings) -> None:
    """The tag points to the run's commit even when the tree has moved on; the same again changes nothing."""
    first = commit(project)
    run = create_run(project, "quick", author="ada")
    check_taggable(run)
    commit(project)
    assert "quick@7" == tag_commit(run, version(run)) == tag_commit(run, version(run))
    assert first == git(project, "rev-parse", "quick@7^{commit}")
    assert "tag" == git(project, "cat-file", "-t", "quick@7")
    assert f"quick@7 {DIGEST}" == git(project, "tag", "--list", "--format=%(contents:subject)", "quick@7")


def test_a_name_that_is_taken_is_a_conflict(project: Settings) -> None:
    """Two registries may number alike: the first tag stays as it is."""
    commit(project)
    run = create_run(project, "quick", author="ada")
    tag_commit(run, version(run))
    other = f"sha256:{'cd' * 32}"
    with pytest.raises(TagTakenError, match="exists and says"):
        tag_commit(run, version(run, digest=other))


def test_a_tree_with_changes_cannot_be_tagged(project: Settings) -> None:
    """Nor one outside git; both are said before anything is registered."""
    outside = create_run(project, "quick", author="ada")
    with pytest.raises(NotTaggableError, match="outside git"):
        check_taggable(outside)
    commit(project)
    (project.project / "changed.py").write_text("x = 1\n", "utf-8")
    with pytest.raises(NotTaggableError, match="with changes on top of"):
        check_taggable(create_run(project, "quick", author="ada"))


@pytest.mark.parametrize(("commit", "dirty", "status"), [("a" * 40, False, "passed"), ("a" * 40, True, "failed"), (None, None, "no data")])
def test_the_gate_refuses_a_dirty_tree_when_the_settings_say_so(commit: str | None, dirty: bool | None, status: str) -> None:  # noqa: FBT001
    """Asked for it is required; not asked for it is not even listed."""
    measured = Measurements(
        sets={"clean": Score(200, 190)},
        slices={},
        commonest=0.5,
        fp32=Score(200, 190),
        agreement=1.0,
        p95_seconds=0.001,
        bytes=10,
        commit=commit,
        dirty=dirty,
    )
    asked = {own.name: own for own in examine(GateSettings(clean_tree=True), measured)}
    assert (status, True) == (asked["clean tree"].status, asked["clean tree"].required)
    assert "clean tree" not in {own.name for own in examine(GateSettings(), replace(measured))}
