"""A run as one file, handed from one machine's project to another's."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from lastgood.pipelines.archive import ArchiveError, OtherCommitError, hand_over, is_archive, pack, unpack
from lastgood.pipelines.errors import GateRefusedError, RunNotFoundError
from lastgood.pipelines.run import create_run, list_runs, note_changes
from lastgood.settings import Settings


@pytest.fixture
def elsewhere(project: Settings, tmp_path: Path) -> Settings:
    """The same project with a home of its own, as another CI agent has it."""
    return project.model_copy(update={"home": tmp_path / "elsewhere"})


@pytest.mark.parametrize("name", ["run.tar", "run.tar.gz", "run.tgz"])
def test_a_run_arrives_elsewhere_byte_for_byte(project: Settings, elsewhere: Settings, tmp_path: Path, name: str) -> None:
    """Facts and every file are the same; what belongs to one machine stays there."""
    run = create_run(project, "quick", seed=7, why="carried")
    (run.folder / "train").mkdir()
    (run.folder / "train" / "model.onnx").write_bytes(bytes(range(256)) * 99)
    (run.folder / "gate" / "live" / "x").mkdir(parents=True)
    (run.folder / "gate" / "live" / "x" / "model.onnx").write_bytes(b"a copy of what is live here")
    (run.folder / "gate" / "live.json").write_text("{}", "utf-8")
    pack(run, tmp_path / name)
    came = unpack(elsewhere, tmp_path / name)
    assert run.facts == came.facts
    assert came.folder.is_relative_to(elsewhere.home)
    assert bytes(range(256)) * 99 == (came.folder / "train" / "model.onnx").read_bytes()
    assert not (came.folder / "gate").exists()
    assert [run.id] == list_runs(elsewhere)


def test_what_a_step_leaves_goes_back_into_the_archive_even_when_it_refused(project: Settings, elsewhere: Settings, tmp_path: Path) -> None:
    """A gate's report is what the next stage archives, above all when it said no."""
    archive = tmp_path / "run.tar"
    pack(create_run(project, "quick"), archive)

    def refuse() -> None:
        with hand_over(elsewhere, "quick", str(archive)) as run:
            (run.folder / "left.txt").write_text("refused", "utf-8")
            raise GateRefusedError("no")

    with pytest.raises(GateRefusedError):
        refuse()
    assert "refused" == (unpack(project, archive).folder / "left.txt").read_text("utf-8")
    assert [archive] == list(tmp_path.glob("*run.tar*"))


def test_another_models_archive_is_refused(project: Settings, tmp_path: Path) -> None:
    """A stage that was given the wrong file says so."""
    pack(create_run(project, "quick"), tmp_path / "run.tar")
    with (
        pytest.raises(RunNotFoundError, match="is a run of model 'quick', not 'digits'"),
        hand_over(project, "digits", f"{tmp_path}/run.tar"),
    ):
        pytest.fail("opened")
    with pytest.raises(RunNotFoundError, match="lastgood train MODEL --run"):
        unpack(project, tmp_path / "absent.tar")
    with pytest.raises(ArchiveError, match="there is no folder"):
        pack(create_run(project, "quick"), tmp_path / "absent" / "run.tar")


def make_archive(path: Path, *members: tarfile.TarInfo, data: bytes = b"x") -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))
    return path


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


ATTACKS = {
    "outside": [tarfile.TarInfo("../evil-1/run.json")],
    "absolute": [tarfile.TarInfo("/tmp/evil/run.json")],
    "symlink": [tarfile.TarInfo("a/run.json"), link("a/passwd", tarfile.SYMTYPE, "/etc/passwd")],
    "hard link": [tarfile.TarInfo("a/run.json"), link("a/passwd", tarfile.LNKTYPE, "../../outside")],
    "device": [tarfile.TarInfo("a/run.json"), link("a/null", tarfile.CHRTYPE, "")],
    "two runs": [tarfile.TarInfo("a/run.json"), tarfile.TarInfo("b/run.json")],
    "no facts": [tarfile.TarInfo("a/model.onnx")],
    "no folder": [tarfile.TarInfo("run.json")],
}


@pytest.mark.parametrize("attack", list(ATTACKS))
def test_what_no_step_writes_is_refused_and_leaves_nothing(project: Settings, tmp_path: Path, attack: str) -> None:
    """Paths that lead out, links, devices, several runs: an error, no file anywhere."""
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    archive = make_archive(tmp_path / "attack.tar", *ATTACKS[attack])
    with pytest.raises(ArchiveError):
        unpack(project, archive)
    assert {*before, archive} == {path for path in tmp_path.rglob("*") if path.is_file()}
    assert [] == list_runs(project)


def test_a_file_that_is_no_archive_is_told(project: Settings, tmp_path: Path) -> None:
    """Neither is one that was cut off."""
    (tmp_path / "text.tar").write_text("not a tar", "utf-8")
    with pytest.raises(ArchiveError, match="is no run's archive"):
        unpack(project, tmp_path / "text.tar")
    run = create_run(project, "quick")
    (run.folder / "big").write_bytes(bytes(100_000))
    pack(run, tmp_path / "whole.tar.gz")
    (tmp_path / "cut.tar.gz").write_bytes((tmp_path / "whole.tar.gz").read_bytes()[:-40])
    with pytest.raises(ArchiveError):
        unpack(project, tmp_path / "cut.tar.gz")


def test_the_archive_is_of_the_commit_that_is_checked_out(project: Settings, elsewhere: Settings, tmp_path: Path) -> None:
    """A stage on an agent with another commit stops: what is released is what was tested."""
    (project.project / ".gitignore").write_text("*\n", "utf-8")
    git = ["git", "-C", str(project.project), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "--force", "quick.py"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    archive = tmp_path / "run.tar"
    pack(create_run(project, "quick"), archive)
    with hand_over(elsewhere, "quick", str(archive)) as run:
        assert run.facts.dirty is False
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "second"], check=True)
    with pytest.raises(OtherCommitError, match="what is released must be what was tested"), hand_over(elsewhere, "quick", str(archive)):
        pytest.fail("opened")


def test_an_archive_beside_the_pipeline_is_no_change_at_any_step(project: Settings) -> None:
    """It is lastgood's own file; a step that looks again does not take it for somebody's work."""
    git = ["git", "-C", str(project.project), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    archive = project.project / "run.tar"
    pack(create_run(project, "quick", archive=archive), archive)
    for _ in range(2):
        with hand_over(project, "quick", str(archive)) as run:
            assert note_changes(run).facts.dirty is False


def test_a_slash_or_a_suffix_makes_a_file() -> None:
    """A run's name has neither."""
    assert [False, True, True, True] == [is_archive(own) for own in ("digits-20260101-000000-abcd", "run.tar", "./run", "a/b")]
