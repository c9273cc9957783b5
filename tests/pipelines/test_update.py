"""Updates of a real model: warm starts, what they learn, what they never see, and what they refuse."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from lastgood.flows.keys import train_key
from lastgood.pipelines.archive import pack, unpack
from lastgood.pipelines.child import read_fingerprint, run_step
from lastgood.pipelines.cooldown import find_cooldown
from lastgood.pipelines.data import Array
from lastgood.pipelines.find import find_pipeline
from lastgood.pipelines.kept_weights import WEIGHTS, WeightsGoneError
from lastgood.pipelines.run import create_run
from lastgood.pipelines.train import MODEL as FILE
from lastgood.pipelines.train import RESULT, TrainResult, load_data, train
from lastgood.pipelines.update import ROWS, NothingLiveError, TooFewRowsError, begin_update, read_taken
from lastgood.pipelines.warm_start import CannotContinueError
from lastgood.registry.content import Record
from lastgood.registry.registry import Registry
from lastgood.runtime import open_session
from lastgood.settings import Settings
from tests.pipelines.updating import BEGAN, MODEL, begin, finish, make_project, new_rows, release, write_log

MIN = "min_rows = 20\n"


def answer(settings: Settings, digest: str, x: Array) -> Array:
    """Give a version's probabilities."""
    folder = settings.home / "served" / digest[7:19]
    with Registry.open(settings, writer="cli") as registry:
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            registry.materialize(digest, folder)
    return np.asarray(open_session(folder / "model.onnx").run(None, {"features": x})[0])


def accuracy(settings: Settings, digest: str, x: Array, y: Array) -> float:
    return float((answer(settings, digest, x).argmax(axis=1) == y).mean())


@pytest.mark.parametrize("kind", ["sgd", "mlp"])
def test_no_epochs_give_the_live_versions_answers(tmp_path: Path, kind: str) -> None:
    """A warm start is one: before anything is fitted, the model is the live version."""
    settings = make_project(tmp_path / "p", kind=kind, update=f"{MIN}epochs = 0\n")
    live = release(settings)
    write_log(settings, *new_rows(40))
    run = begin(settings)
    train(run)
    x = find_pipeline(settings, MODEL).pipeline.load().evaluation["clean"][0]
    np.testing.assert_allclose(
        answer(settings, live.digest, x), open_session(run.folder / FILE).run(None, {"features": x})[0], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["sgd", "mlp"])
def test_new_rows_are_learnt_and_old_ones_not_forgotten(tmp_path: Path, kind: str) -> None:
    """What the live version gets wrong in production, its update gets right; replay keeps what was known."""
    settings = make_project(tmp_path / "p", kind=kind, update=f"{MIN}epochs = 12\nreplay_ratio = 0.5\n")
    live = release(settings)
    write_log(settings, *new_rows(300))
    updated = finish(begin(settings))
    x, y = new_rows(300, seed=77)
    known, labels = find_pipeline(settings, MODEL).pipeline.load().evaluation["clean"]
    assert accuracy(settings, live.digest, x, y) < 0.65
    assert accuracy(settings, updated.digest, x, y) > 0.85
    assert accuracy(settings, updated.digest, known, labels) > 0.85
    with Registry.open(settings, writer="cli") as registry:
        record = registry.record(updated.digest)
    assert live.digest == record.parent
    told = record.parameters["update"]
    assert ("incremental", "demand", 12, 300, 300) == tuple(told[n] for n in ("policy", "reason", "epochs", "labelled", "used"))


def test_the_same_rows_are_not_new_twice_from_one_version_to_the_next(tmp_path: Path) -> None:
    """The version that goes live says what it used; a version that does not, leaves the rows new."""
    settings = make_project(tmp_path / "p", update=MIN)
    release(settings)
    write_log(settings, *new_rows(30))
    finish(begin(settings), live=False)
    second = finish(begin(settings, seed=6))
    assert 30 == _told(settings, second.digest)["used"]
    with pytest.raises(TooFewRowsError, match=r"0 newly labelled rows to train on, 20 are asked for"):
        begin(settings)
    write_log(settings, *new_rows(25, seed=4), at=BEGAN + timedelta(hours=1), name="later")
    assert 25 == _told(settings, finish(begin(settings)).digest)["used"]


def _told(settings: Settings, digest: str) -> dict[str, int]:
    with Registry.open(settings, writer="cli") as registry:
        return dict(registry.record(digest).parameters["update"])


def test_no_evaluation_row_is_trained_on(tmp_path: Path) -> None:
    """In neither policy, whatever the log holds."""
    settings = make_project(tmp_path / "p", update=f"{MIN}with_log = true\nreplay_ratio = 1.0\n")
    release(settings)
    evaluation, labels = find_pipeline(settings, MODEL).pipeline.load().evaluation["clean"]
    write_log(settings, evaluation, labels, name="sneaked")
    write_log(settings, *new_rows(40), at=BEGAN + timedelta(hours=1), name="fresh")
    for policy in ("full", "incremental"):
        run = begin(settings, policy=policy)
        trained = {row.tobytes() for row in load_data(run).train[0]}
        assert not trained & {row.tobytes() for row in evaluation}
        assert 640 == len(trained)
        update = read_taken(run)
        assert update is not None
        assert update.counts is not None
        assert (340, 300, 40) == (update.counts.labelled, update.counts.evaluation_rows, update.counts.used)


def test_the_same_commit_data_seed_and_recipe_give_the_same_digest(tmp_path: Path) -> None:
    """Also from the archive, elsewhere; more rows give another one, and another key of the cache."""
    fixed = {"recipe": "fp32"}  # left free, it is the fastest here and now, which is not the same twice
    settings = make_project(tmp_path / "p", update=MIN)
    release(settings)
    write_log(settings, *new_rows(30))
    first, second = begin(settings, overrides=fixed), begin(settings, overrides=fixed)
    assert read_fingerprint(first) == read_fingerprint(second)
    assert train_key(first, read_fingerprint(first)) == train_key(second, read_fingerprint(second))
    pack(first, tmp_path / "run.tar")
    with tarfile.open(tmp_path / "run.tar") as tar:
        assert {f"{first.id}/{ROWS}", f"{first.id}/update/parent.npz"} <= set(tar.getnames())
    elsewhere = make_project(tmp_path / "q", update="")
    moved = unpack(elsewhere, tmp_path / "run.tar")
    assert finish(second, live=False).digest == finish(moved, live=False).digest
    assert read_fingerprint(second) == second.read(RESULT, TrainResult, step="train").data
    write_log(settings, *new_rows(5, seed=8), at=BEGAN + timedelta(hours=1), name="more")
    third = begin(settings, overrides=fixed)
    assert read_fingerprint(third) != read_fingerprint(second)
    assert train_key(third, read_fingerprint(third)) != train_key(second, read_fingerprint(second))


def test_a_full_update_uses_the_whole_log_only_when_asked(tmp_path: Path) -> None:
    """It begins anew, so rows that were used before are used again."""
    settings = make_project(tmp_path / "p", update=MIN)
    release(settings)
    write_log(settings, *new_rows(30))
    finish(begin(settings))
    plain = begin(settings, policy="full")
    assert 600 == len(load_data(plain).train[1])
    settings = make_project(tmp_path / "p", update=f"{MIN}with_log = true\n")
    assert 630 == len(load_data(begin(settings, policy="full")).train[1])


def test_nothing_live_gone_weights_and_another_structure_are_sentences(tmp_path: Path) -> None:
    """Each says what to do: train from the start."""
    settings = make_project(tmp_path / "p", kind="mlp", update=MIN)
    write_log(settings, *new_rows(30))
    with pytest.raises(NothingLiveError, match="no live version to go on from"):
        begin_update(settings, MODEL, policy="incremental")
    live = release(settings)
    with pytest.raises(CannotContinueError, match=r"layer 0 has \(6, 12\), built was \(6, 5\)"):
        train(begin(settings, overrides={"hidden": "5"}))
    with pytest.raises(CannotContinueError, match="it was MLPClassifier, and build\\(\\) gives SGDClassifier"):
        train(begin(settings, overrides={"kind": "sgd"}))
    trained = settings.home / "runs" / str(_record(settings, live.digest).run) / WEIGHTS
    with Registry.open(settings, writer="cli") as registry:
        assert registry.fetch_weights(live.digest, tmp_path / "weights.npz")
        assert trained.read_bytes() == (tmp_path / "weights.npz").read_bytes()
        sha256 = hashlib.sha256(trained.read_bytes()).hexdigest()
    kept = settings.home / "registry" / "files" / sha256[:2] / sha256[2:]
    kept.chmod(0o644)
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsGoneError, match=r'damaged.*policy = "full"'):
        begin(settings)


def test_a_version_whose_weights_were_not_kept_goes_on_from_its_run_while_that_is_there(tmp_path: Path) -> None:
    """As those that were registered before weights were kept."""
    settings = make_project(tmp_path / "p", kind="mlp", update=MIN)
    write_log(settings, *new_rows(30))
    run = create_run(settings, MODEL, overrides={"recipe": "fp32"}, seed=1)
    train(run)
    weights = run.folder / WEIGHTS
    away = weights.rename(tmp_path / "away.npz")
    live = finish(run, trained=True)
    away.rename(weights)
    began = begin(settings)
    assert weights.read_bytes() == (began.folder / "update/parent.npz").read_bytes()
    assert _record(settings, live.digest).run == run.id
    shutil.rmtree(settings.home / "runs")
    with pytest.raises(WeightsGoneError, match=r'not kept.*policy = "full"'):
        begin(settings)


def _record(settings: Settings, digest: str) -> Record:
    with Registry.open(settings, writer="cli") as registry:
        return registry.record(digest)


def test_a_model_that_cannot_be_continued_is_named_with_those_that_can(tmp_path: Path) -> None:
    """A forest has no weights to go on from."""
    settings = make_project(tmp_path / "p", kind="forest", update=MIN)
    release(settings)
    write_log(settings, *new_rows(30))
    with pytest.raises(WeightsGoneError, match="a forest cannot be trained further"):
        begin(settings)
    settings = make_project(tmp_path / "p", kind="sgd", update=MIN)
    release(settings, seed=2)
    with pytest.raises(CannotContinueError, match=r"RandomForestClassifier cannot be trained further.*SGDClassifier.*MLPClassifier"):
        train(begin(settings, overrides={"kind": "forest"}))


def test_the_live_versions_parameters_are_inherited_and_the_updates_own_win(tmp_path: Path) -> None:
    """The structure must be the one whose weights are loaded."""
    settings = make_project(tmp_path / "p", kind="mlp", update=f"{MIN}parameters = {{ recipe_seed = 3 }}\n")
    release(settings, hidden="7")
    write_log(settings, *new_rows(30))
    run = begin(settings)
    assert (7, 3) == (run.facts.parameters["hidden"], run.facts.parameters["recipe_seed"])
    train(run)
    with np.load(run.folder / WEIGHTS, allow_pickle=False) as saved:
        assert (6, 7) == saved["0/MLPClassifier/layer000/0"].shape


def test_what_was_withdrawn_cools_down(tmp_path: Path) -> None:
    """The same commit and data are not tried again by themselves for a while; other data are."""
    settings = make_project(tmp_path / "p", update=MIN)
    release(settings)
    write_log(settings, *new_rows(30))
    bad = finish(begin(settings), live=False)
    with Registry.open(settings, writer="gateway") as registry, registry.transaction() as transaction:
        transaction.tombstone(bad.digest, model=MODEL, cause="judge", actor="judge", why="more wrong events", payload={})
        payload = {"version": bad.number, "cause": "judge", "why": "more wrong events"}
        transaction.append("withdrawn", model=MODEL, digest=bad.digest, actor="judge", payload=payload)
    again = begin(settings, seed=9)
    now = datetime.now(UTC)
    commit, data = again.facts.commit, read_fingerprint(again)
    found = find_cooldown(settings, MODEL, commit, data, now)
    assert found is not None
    assert find_cooldown(settings, MODEL, commit, data, now + timedelta(days=1)) is None
    assert find_cooldown(settings, MODEL, commit, "sha256:other", now) is None
    assert find_cooldown(settings, MODEL, "another", data, now) is None
    assert find_cooldown(settings, "unknown", commit, data, now) is None


def test_an_update_step_runs_in_a_process_of_its_own_and_says_why_not(tmp_path: Path) -> None:
    """The child's error is the same error here."""
    settings = make_project(tmp_path / "p", update=MIN)
    release(settings)
    write_log(settings, *new_rows(3))
    run = begin_update(settings, MODEL, policy="incremental")
    with pytest.raises(TooFewRowsError, match="3 newly labelled rows"):
        run_step(run, "update")


KERAS = """
import numpy as np
from lastgood.pipelines import Data, Pipeline

class Moving(Pipeline):
    parameters = {"width": 2, "epochs": 40, "batch_size": 32, "learning_rate": 0.01}
    search = ({"width": 2}, {"width": 24})
    gate = {"accuracy_floor": 0.5, "slice_floor": 0.2, "max_loss_vs_live": 0.6}
    input_name = "features"

    def load(self):
        rng = np.random.default_rng(1)
        x = rng.normal(size=(1200, 6)).astype(np.float32)
        y = (np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] > 0).astype(int)
        x[:, 4] = 0
        return Data(train=(x[:800], y[:800]), evaluation={"clean": (x[800:1000], y[800:1000]), "more": (x[1000:], y[1000:])})

    def build(self, parameters):
        from tf_keras import Sequential, layers
        return Sequential([
            layers.Input((6,), name="features"),
            layers.Dense(int(parameters["width"]), activation="relu"),
            layers.Dense(2, activation="softmax"),
        ])
"""
KERAS_PROGRAM = """
import sys
from lastgood.pipelines.run import create_run
from lastgood.pipelines.update import begin_update
from lastgood.settings import load_settings
from tests.pipelines.updating import MODEL, finish
from lastgood.pipelines.child import run_step

settings = load_settings()
run = create_run(settings, MODEL, overrides={"recipe": "fp32"}, seed=1) if sys.argv[1] == "release" else begin_update(
    settings, MODEL, policy="incremental", overrides={"recipe": "fp32"}, seed=2
)
if sys.argv[1] != "release":
    run_step(run, "update")
print(finish(run).digest)
"""


@pytest.mark.slow
def test_a_keras_model_goes_on_from_its_weights_at_the_width_that_was_chosen(tmp_path: Path) -> None:
    """The search is not run again; no epochs give the live answers, some learn what is new."""
    settings = make_project(tmp_path / "p", update=f"{MIN}epochs = 0\n")
    (settings.project / "moving.py").write_text(KERAS, "utf-8")
    root = str(Path(__file__).parents[2])

    def call(what: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", KERAS_PROGRAM, what],
            cwd=settings.project,
            env={**os.environ, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert 0 == done.returncode, done.stderr[-3000:]
        return done.stdout.split()[-1]

    first = call("release")
    with Registry.open(settings, writer="cli") as registry:
        assert 24 == registry.record(first).parameters["width"]
    write_log(settings, *new_rows(200))
    x, y = new_rows(200, seed=77)
    same = call("update")
    np.testing.assert_allclose(answer(settings, first, x), answer(settings, same, x), rtol=0, atol=1e-6)
    write_log(settings, *new_rows(200, seed=3), at=BEGAN + timedelta(hours=1), name="more")
    make_project(settings.project, update=f"{MIN}epochs = 10\nparameters = {{ learning_rate = 0.02 }}\n")
    (settings.project / "moving.py").write_text(KERAS, "utf-8")
    learnt = call("update")
    assert accuracy(settings, learnt, x, y) > accuracy(settings, first, x, y) + 0.15
