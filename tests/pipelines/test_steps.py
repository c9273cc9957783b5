"""The steps, on a quick scikit-learn pipeline, up to a registered version."""

import os
import signal
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import psutil
import pytest

from lastgood.pipelines.child import read_fingerprint, run_step
from lastgood.pipelines.compress import COMPRESS_RESULT, CompressResult, compress
from lastgood.pipelines.errors import GateRefusedError, PipelineError, StepCrashedError
from lastgood.pipelines.gate import JUNIT, REPORT, LiveModel, gate, tabulate
from lastgood.pipelines.progress import Progress
from lastgood.pipelines.register import register
from lastgood.pipelines.run import Run, create_run
from lastgood.pipelines.train import MODEL, TrainResult, train
from lastgood.registry.registry import Registry
from lastgood.runtime import open_session
from lastgood.settings import Settings, load_settings


def make(project: Settings, **settings: int) -> Run:
    """Run every step up to the gate in this process."""
    run = create_run(project, "quick", seed=settings.get("seed", 1), author="ada", why="test")
    train(run)
    compress(run)
    return run


def rewrite(project: Settings, old: str, new: str) -> None:
    file = project.project / "quick.py"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def test_a_pipeline_becomes_a_version_whose_record_and_examples_are_true(project: Settings) -> None:
    """What is registered is the tested file, with its metrics, and its golden examples are its own answers."""
    run = make(project)
    verdict = gate(run, live=None)
    with Registry.open(project, writer="cli") as registry:
        version = register(run, registry)
        assert (version.number, version.new) == (1, True)
        content, record = registry.content(version.digest), registry.record(version.digest)
        folder = registry.materialize(version.digest, project.home / "served")
    assert record.metrics["accuracy"] == verdict.metrics["accuracy"] > 0.9
    assert (record.author, record.why, record.seed, record.run) == ("ada", "test", 1, run.id)
    assert content.batching == 0
    assert content.golden is not None
    with np.load(folder / content.golden.file, allow_pickle=False) as golden:
        rows, expected = golden["in/input"], golden["out/probabilities"]
    assert len(rows) >= 16
    np.testing.assert_array_equal(open_session(folder / content.model).run(None, {"input": rows})[0], expected)


def test_the_same_seed_gives_the_same_digest_and_the_same_version(project: Settings) -> None:
    """Releasing the same twice gives the number it has."""
    with Registry.open(project, writer="cli") as registry:
        versions = []
        for _ in range(2):
            run = make(project)
            gate(run, live=None)
            versions.append(register(run, registry))
    assert versions[0].digest == versions[1].digest
    assert [own.number for own in versions] == [1, 1]


def test_the_gate_writes_its_answer_for_people_and_machines(project: Settings) -> None:
    """JUnit has a case per condition, the report shows each sentence and is one file without outside parts."""
    run = create_run(project, "quick", why="<b>bold</b>")
    train(run)
    compress(run)
    verdict = gate(run, live=None)
    suite = ET.parse(run.folder / JUNIT).getroot()  # noqa: S314 - written a line ago
    assert suite.get("tests") == str(len(verdict.conditions)) == str(len(suite.findall("testcase")))
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    page = (run.folder / REPORT).read_text("utf-8")
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<b>bold" not in page
    assert page.count("<svg") == 4
    assert "<script" not in page
    assert len(tabulate(verdict).rows) == len(verdict.conditions)


def test_a_refusal_is_written_and_raised_and_cannot_be_registered(project: Settings) -> None:
    """The gate's no has exit code 3, leaves its report, and holds at register."""
    rewrite(project, '"accuracy_floor": 0.8', '"accuracy_floor": 0.999999')
    run = make(project)
    with pytest.raises(GateRefusedError, match=r"accuracy: .*% of 2400 rows right; at least 100.00% asked") as refusal:
        gate(run, live=None)
    assert refusal.value.exit_code == 3
    assert (run.folder / REPORT).is_file()
    with Registry.open(project, writer="cli") as registry, pytest.raises(GateRefusedError):
        register(run, registry)


def test_a_file_changed_after_the_gate_is_not_registered(project: Settings) -> None:
    """The verdict is about bytes, not about a path."""
    run = make(project)
    gate(run, live=None)
    (run.folder / MODEL).write_bytes((run.folder / MODEL).read_bytes() + b"\n")
    with Registry.open(project, writer="cli") as registry, pytest.raises(GateRefusedError, match="the gate passed"):
        register(run, registry)


def test_a_version_worse_than_the_live_one_is_refused(project: Settings) -> None:
    """Accuracy above the floor is not enough when the live version is better on the same rows."""
    better = make(project)
    rewrite(project, "y[:400])", "np.where(np.arange(400) % 5 < 1, 1, y[:400]))")
    worse = make(project)
    live = LiveModel("quick@1", "sha256:" + "0" * 64, str(better.folder / MODEL))
    assert worse.read("train.json", TrainResult, step="train").accuracy > 0.8
    with pytest.raises(GateRefusedError, match="loss against live: With 95% confidence at most"):
        gate(worse, live=live)
    assert gate(better, live=live).passed


def test_a_live_version_with_other_inputs_is_no_data(project: Settings) -> None:
    """What cannot be compared does not pass the comparison."""
    narrow = make(project)
    rewrite(project, "size=(1600, 5)", "size=(1600, 6)")
    with pytest.raises(GateRefusedError, match="it takes"):
        gate(make(project), live=LiveModel("quick@1", "sha256:" + "0" * 64, str(narrow.folder / MODEL)))


def test_a_recipe_that_does_not_fit_is_a_row_with_the_reason(project: Settings) -> None:
    """A scikit-learn model is released as it is, and the table says why."""
    result = make(project).read(COMPRESS_RESULT, CompressResult, step="compress")
    assert (result.chosen, result.file) == ("fp32", MODEL)
    assert result.baseline is result.winner
    assert "prunes Keras models only" in next(own.verdict for own in result.variants if own.recipe == "pruned")


def test_steps_run_in_a_process_of_their_own_and_report(project: Settings) -> None:
    """Progress arrives in order, and results are in the folder."""
    run = create_run(project, "quick", author="ada")
    reports: list[Progress] = []
    run_step(run, "fingerprint")
    run_step(run, "train", reports.append)
    assert read_fingerprint(run) == run.read("train.json", TrainResult, step="train").data
    fractions = [own.fraction for own in reports]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_an_error_in_the_child_is_the_same_error_here(project: Settings) -> None:
    """A mistake in the user's code keeps its class, its sentence and its exit code."""
    run = create_run(project, "quick")
    rewrite(project, "rng.normal(size=(1600, 5))", "rng.normal(size=(1600, 5)) + missing")
    with pytest.raises(PipelineError, match=r"quick.py, line 12, failed in load\(\): NameError.*missing"):
        run_step(run, "train")


def test_a_crash_in_the_child_gives_its_last_lines(project: Settings) -> None:
    """A child that dies says how, and what it wrote last."""
    run = create_run(project, "quick")
    rewrite(project, "def load(self):", "def load(self):\n        import os; os.write(2, b'last words'); os.abort()")
    with pytest.raises(StepCrashedError, match=rf"(?s)killed by signal {signal.SIGABRT:d}.*last words"):
        run_step(run, "train")


def test_interrupting_ends_the_child_and_what_it_started(project: Settings) -> None:
    """Ctrl-C while a step runs leaves no process behind."""
    run = create_run(project, "quick")
    sleeper = "import subprocess; subprocess.run(['sh', '-c', 'exec 3>hold; exec sleep 600'])"
    rewrite(project, "def load(self):", f"def load(self):\n        {sleeper}")
    hold = project.project / "hold"
    os.mkfifo(hold)
    held = []

    def interrupt(report: Progress) -> None:
        held.append(hold.open("rb"))  # opens once what load() started has the other end
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_step(run, "train", interrupt)
    with held[0] as pipe:
        assert pipe.read() == b""  # the last holder of the other end is gone


def test_a_child_ends_when_whoever_started_it_does(project: Settings) -> None:
    """A killed parent, which can say nothing any more, takes its step along."""
    run = create_run(project, "quick")
    rewrite(
        project,
        "def load(self):",
        "def load(self):\n        import os; open('ready', 'w').close(); os.read(os.open('hold', os.O_RDONLY), 1)",
    )
    hold = project.project / "hold"
    os.mkfifo(hold)
    code = (
        "import sys; from pathlib import Path\n"
        "from lastgood.settings import load_settings\nfrom lastgood.pipelines.run import open_run\n"
        "from lastgood.pipelines.child import run_step\n"
        "run_step(open_run(load_settings(), sys.argv[1]), 'train')\n"
    )
    parent = psutil.Popen([sys.executable, "-c", code, run.id])
    with hold.open("wb"):  # opens once load() has the other end: the step is inside it now
        children = parent.children(recursive=True)
        parent.kill()
        parent.wait()
        assert children
        _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_the_steps_share_a_folder_that_can_move(project: Settings, tmp_path: Path) -> None:
    """A run made on one machine is gated on another from its archive."""
    run = make(project)
    moved = tmp_path / "elsewhere"
    run.folder.rename(moved)
    from lastgood.pipelines.run import open_run

    assert gate(open_run(load_settings(project.project), moved), live=None).passed
