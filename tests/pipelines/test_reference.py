"""The drift reference of a run: of the ordinary set, of the exact file, the same each time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lastgood.monitoring.drift.monitor import DriftMonitor
from lastgood.monitoring.drift.profile import Profile
from lastgood.monitoring.drift.settings import DriftSettings
from lastgood.pipelines.compress import compress
from lastgood.pipelines.evaluation import Evaluation, EvaluationSet, load_evaluation, save_evaluation
from lastgood.pipelines.gate import gate
from lastgood.pipelines.reference import write_reference
from lastgood.pipelines.register import register
from lastgood.pipelines.run import Run, create_run
from lastgood.pipelines.train import EVALUATION, MODEL, train
from lastgood.registry.registry import Registry
from lastgood.runtime import open_session
from lastgood.settings import Settings


@pytest.fixture
def run(project: Settings) -> Run:
    """A trained run of the quick pipeline."""
    run = create_run(project, "quick", seed=1, author="ada", why="test")
    train(run)
    return run


def test_a_version_has_its_reference_among_its_files(run: Run, project: Settings) -> None:
    """It is named by the content, and what serves from the files can read it back and watch with it."""
    compress(run)
    gate(run, live=None)
    with Registry.open(project, writer="cli") as registry:
        version = register(run, registry)
        content = registry.content(version.digest)
        folder = registry.materialize(version.digest, project.home / "served")
    assert content.drift is not None
    profile = Profile.from_bytes((folder / content.drift).read_bytes())
    assert 1200 == profile.rows
    assert [f"in/input[{index}]" for index in range(5)] == list(profile.plan.names[:5])
    assert profile.calibration is not None
    assert profile.calibration.tested > 0.8
    ordinary = load_evaluation(run.folder / EVALUATION).sets["clean"].x
    monitor = DriftMonitor(profile, DriftSettings(rhythm="none"))
    session = open_session(folder / content.model)
    names = [own.name for own in session.get_outputs()]
    for shift, alarm in ((0.0, False), (1.0, True)):
        rows = ordinary[:640] + np.float32(shift)
        monitor.observe({"input": rows}, dict(zip(names, session.run(names, {"input": rows}), strict=True)), 0.0)
        assert alarm == monitor.report().alarm


def test_the_same_model_and_rows_give_the_same_bytes(run: Run, tmp_path: Path) -> None:
    """The reference is part of the digest."""
    evaluation = load_evaluation(run.folder / EVALUATION)
    one, other = tmp_path / "a" / "drift.npz", tmp_path / "b" / "drift.npz"
    for out in (one, other):
        write_reference(run.folder / MODEL, evaluation, out)
    assert one.read_bytes() == other.read_bytes()


def test_the_first_set_is_what_production_is_expected_to_be(run: Run, tmp_path: Path) -> None:
    """Later sets are harder on purpose: they calibrate confidence and do not widen what is usual."""
    first, second = load_evaluation(run.folder / EVALUATION).sets.values()
    far = replace(second, x=second.x + 100)
    alone = write_reference(run.folder / MODEL, Evaluation({"clean": first}), tmp_path / "a" / "drift.npz")
    both = write_reference(run.folder / MODEL, Evaluation({"clean": first, "far": far}), tmp_path / "b" / "drift.npz")
    np.testing.assert_array_equal(alone.counts, both.counts)
    assert alone.calibration is not None
    assert both.calibration is not None
    assert both.calibration.rows.sum() > alone.calibration.rows.sum()


def test_copies_of_an_original_count_once(run: Run, tmp_path: Path) -> None:
    """Else a set of copies would be taken for a large sample, and its sampling error for none."""
    first = next(iter(load_evaluation(run.folder / EVALUATION).sets.values()))
    copied = replace(first, groups=np.arange(len(first.y)) // 4)
    assert 300 == write_reference(run.folder / MODEL, Evaluation({"clean": copied}), tmp_path / "drift.npz").rows


def test_row_times_give_the_reference_a_rhythm_and_survive_the_run_folder(run: Run, tmp_path: Path) -> None:
    """They are kept with the rows of their set."""
    first = next(iter(load_evaluation(run.folder / EVALUATION).sets.values()))
    times = np.linspace(0, 7 * 86_400, 2400)
    own = EvaluationSet(np.tile(first.x, (2, 1)), np.tile(first.y, 2), np.arange(2400), {}, times)
    save_evaluation(Evaluation({"clean": own, "again": replace(own, times=None)}), tmp_path / "sets")
    loaded = load_evaluation(tmp_path / "sets")
    np.testing.assert_array_equal(times, loaded.sets["clean"].times)
    assert loaded.sets["again"].times is None
    profile = write_reference(run.folder / MODEL, loaded, tmp_path / "drift.npz")
    assert profile.rhythm is not None
    assert Profile.from_bytes((tmp_path / "drift.npz").read_bytes()).rhythm is not None
