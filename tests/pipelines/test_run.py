"""Run folders."""

import subprocess
from pathlib import Path

import pytest

from lastgood.errors import ConfigurationError, IntegrityError
from lastgood.pipelines.errors import ParameterError, RunNotFoundError, StepOrderError
from lastgood.pipelines.gate import gate
from lastgood.pipelines.parameters import join_parameters, parse_overrides
from lastgood.pipelines.provenance import read_commit
from lastgood.pipelines.run import create_run, list_runs, note_changes, open_model_run, open_run
from lastgood.settings import Settings, load_settings


def test_a_run_keeps_what_was_asked(project: Settings) -> None:
    """Parameters, seed and reason can be read back from the folder."""
    run = create_run(project, "quick", overrides={"strength": "0.5"}, seed=7, why="try half", author="ada")
    again = open_run(project, run.id)
    assert again.facts == run.facts
    assert (again.facts.parameters["strength"], again.facts.seed, again.facts.why, again.facts.author) == (0.5, 7, "try half", "ada")
    assert open_run(project, run.folder).facts == run.facts


def test_the_seed_is_the_next_version_number(project: Settings) -> None:
    """The first run of an unknown model has seed 1."""
    assert create_run(project, "quick").facts.seed == 1


def test_the_newest_run_of_a_model_is_the_default(project: Settings) -> None:
    """Steps called without --run go on with the newest one; another model's run is refused."""
    with pytest.raises(RunNotFoundError, match="lastgood train quick"):
        open_model_run(project, "quick", None)
    run = create_run(project, "quick")
    assert open_model_run(project, "quick", None).id == run.id
    assert list_runs(project) == [run.id]
    with pytest.raises(RunNotFoundError, match="is of model 'quick', not 'digits'"):
        open_model_run(project, "digits", run.id)


def test_a_step_without_the_one_before_says_so(project: Settings) -> None:
    """The message is the command that is missing."""
    run = create_run(project, "quick")
    with pytest.raises(StepOrderError, match=f"run `lastgood compress quick --run {run.id}` first"):
        gate(run, live=None)


def test_a_damaged_result_is_told(project: Settings) -> None:
    """A file that is not what the step writes is not trusted."""
    run = create_run(project, "quick")
    (run.folder / "compress.json").write_text('{"chosen": 3}', "utf-8")
    with pytest.raises(IntegrityError, match="is not what the step compress writes"):
        gate(run, live=None)
    (run.folder / "run.json").write_text("[]", "utf-8")
    with pytest.raises(IntegrityError):
        open_run(project, run.id)


def test_an_unknown_run_names_the_last_ones(project: Settings) -> None:
    """A typing error in --run shows what there is."""
    run = create_run(project, "quick")
    with pytest.raises(RunNotFoundError, match=run.id):
        open_run(project, "quick-20000101-000000-0000")


def test_a_gate_that_is_not_valid_is_found_out_before_training(project: Settings) -> None:
    """No folder is made for a run whose gate could never answer."""
    (project.project / "lastgood.toml").write_text("[models.quick.gate]\naccuracy_floor = 95\n", "utf-8")
    with pytest.raises(ConfigurationError, match="accuracy_floor = 95"):
        create_run(load_settings(project.project), "quick")
    assert list_runs(project) == []


def test_values_are_parsed_by_the_type_of_the_default() -> None:
    """--set takes numbers as numbers, true and false as such, and lists as JSON."""
    defaults = {"rate": 0.1, "epochs": 3, "wide": False, "name": "a", "layers": [1]}
    texts = parse_overrides(["rate=2\r\nepochs=5\n\n", "wide=yes", "name=b=c", "layers=[2, 3]", "recipe=fp32"])
    joined = join_parameters(defaults, texts)
    assert joined == {"recipe": "fp32", "rate": 2.0, "epochs": 5, "wide": True, "name": "b=c", "layers": [2, 3]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epochs=2.5", "a whole number"),
        ("wide=perhaps", "true or false"),
        ("layers={}", "a JSON list"),
        ("depth=3", "no parameter 'depth'"),
        ("recipe=int9", "no recipe 'int9'"),
        ("epochs", "expected NAME=VALUE"),
        ("=3", "expected NAME=VALUE"),
    ],
)
def test_a_value_of_another_type_is_refused(text: str, sentence: str) -> None:
    """The message says what the default is."""
    with pytest.raises(ParameterError, match=sentence):
        join_parameters({"epochs": 3, "wide": False, "layers": [1]}, parse_overrides([text]))


def test_the_commit_and_changes_to_it_are_recorded(tmp_path: Path) -> None:
    """Outside git there is no commit; inside, a changed file makes it dirty."""
    assert read_commit(tmp_path) == (None, None)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    commit, dirty = read_commit(tmp_path)
    assert (len(commit or ""), dirty) == (40, False)
    (tmp_path / "file").write_text("x", "utf-8")
    assert read_commit(tmp_path) == (commit, True)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments], check=True)


@pytest.fixture
def committed(project: Settings) -> Settings:
    """A project whose files are in a commit, without a word to git about what lastgood writes."""
    git(project.project, "init", "-q")
    git(project.project, "add", ".")
    git(project.project, "commit", "-q", "-m", "first")
    return project


def test_what_lastgood_writes_is_no_change_of_the_project(committed: Settings) -> None:
    """Its home lies in the project, and so may the archive of a run."""
    archive = committed.project / "run.tar"
    archive.write_bytes(b"")
    create_run(committed, "quick", archive=archive)
    assert create_run(committed, "quick", archive=archive).facts.dirty is False


def test_a_pipeline_that_git_ignores_is_in_no_commit(committed: Settings) -> None:
    """The run would be said to be of a commit that does not have its code."""
    git(committed.project, "rm", "-q", "--cached", "quick.py")
    (committed.project / ".gitignore").write_text("quick.py\n", "utf-8")
    git(committed.project, "add", ".gitignore")
    git(committed.project, "commit", "-q", "-m", "no pipeline")
    assert create_run(committed, "quick").facts.dirty is True


def test_where_git_cannot_say_nothing_is_called_clean(committed: Settings) -> None:
    """A damaged index is not the same as no changes."""
    (committed.project / "quick.py").write_text((committed.project / "quick.py").read_text() + "# changed\n", "utf-8")
    (committed.project / ".git" / "index").write_bytes(b"junk")
    facts = create_run(committed, "quick").facts
    assert (facts.commit is not None, facts.dirty) == (True, None)


def test_files_changed_between_two_steps_make_the_run_one_of_no_commit(committed: Settings) -> None:
    """Each step looks again at what it is about to use."""
    run = create_run(committed, "quick")
    assert note_changes(run) is run
    (committed.project / "quick.py").write_text((committed.project / "quick.py").read_text() + "# changed\n", "utf-8")
    assert note_changes(run).facts.dirty is True
    assert open_run(committed, run.id).facts.dirty is True


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    """It would come back from the run's file as nothing at all."""
    with pytest.raises(ParameterError, match="a finite number"):
        join_parameters({"rate": 0.1}, {"rate": text})
