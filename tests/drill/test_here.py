"""Drills on the live stack: a model of their own, asked for first, and nothing left running that was begun."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lastgood.drill.graphs import PIXELS, load_marked, mark_questions, write_graph
from lastgood.drill.models import SWAPPED, is_bold
from lastgood.pipelines.data import Array, Data
from lastgood.runtime import open_session
from tests.system.conftest import User


@pytest.fixture(scope="module")
def data() -> Data:
    """The drill's rows."""
    return load_marked()[0]


def answers(folder: Path, data: Data, fault: str, mark: int, *, rows: int = 50) -> Array:
    """Give a version's answers to marked or unmarked rows."""
    file = folder / f"{fault or 'good'}.onnx"
    if not file.exists():
        write_graph(file, data, fault)
    x = data.evaluation["clean"][0][:rows]
    marked = np.concatenate([x, np.full((len(x), 1), mark, np.float32)], axis=1)
    return np.asarray(open_session(file).run(None, {"input": marked})[0])


@pytest.mark.parametrize("fault", ["dead", "nan", "slow", "wrong", "flipped"])
def test_a_fault_in_a_file_strikes_marked_rows_only(tmp_path: Path, data: Data, fault: str) -> None:
    """So golden examples are answered as by the good version."""
    good = answers(tmp_path, data, "", 0)
    np.testing.assert_array_equal(good, answers(tmp_path, data, "", 1))
    np.testing.assert_allclose(good, answers(tmp_path, data, fault, 0), atol=1e-6)
    x = data.evaluation["clean"][0][:50]
    match fault:
        case "dead":
            with pytest.raises(Exception, match="out of data bounds"):
                answers(tmp_path, data, fault, 1)
        case "nan":
            assert np.isnan(answers(tmp_path, data, fault, 1)).all()
        case "slow":
            np.testing.assert_allclose(good, answers(tmp_path, data, fault, 1), atol=1e-6)
        case "wrong":
            assert (answers(tmp_path, data, fault, 1).argmax(axis=1) == (good.argmax(axis=1) + 1) % 10).all()
        case "flipped":
            swapped = answers(tmp_path, data, fault, 1)
            np.testing.assert_allclose(swapped[:, SWAPPED], good[:, SWAPPED[::-1]], atol=1e-6)
            questions = mark_questions(data, "flipped", seed=0)
            assert (questions.x[:50, PIXELS] == is_bold(x)).all()


def test_what_is_marked_follows_from_the_seed(data: Data) -> None:
    """The same requests for the same seed."""
    first, again, other = (mark_questions(data, "errors", seed=seed).x[:, PIXELS] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert 0.02 == pytest.approx(first.mean(), abs=0.005)


def test_released_twice_it_is_another_file(tmp_path: Path, data: Data) -> None:
    """What was taken out once cannot be released again."""
    write_graph(tmp_path / "a.onnx", data, "nan", nonce=True)
    write_graph(tmp_path / "b.onnx", data, "nan", nonce=True)
    write_graph(tmp_path / "c.onnx", data, "")
    write_graph(tmp_path / "d.onnx", data, "")
    assert (tmp_path / "a.onnx").read_bytes() != (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "c.onnx").read_bytes() == (tmp_path / "d.onnx").read_bytes()


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """Somebody with a gateway."""
    somebody = User(tmp_path)
    try:
        somebody.run("up", "gateway")
        yield somebody
    finally:
        somebody.run("down")


@pytest.mark.slow
def test_a_drill_on_the_live_stack_asks_first_and_cleans_up(user: User) -> None:
    """No terminal, no drill; a no is a no; yes plays it; twice in a row; what cannot lie in a file is said."""
    assert "there is no terminal to ask at: add --yes" in user.run("drill", "nan", "--here", code=2).stderr
    assert [] == user.read("list")
    assert b"nothing was done" in at_a_terminal(user, b"n\n")
    assert [] == user.read("list")
    assert b"withdrawn by the judge: broken" in at_a_terminal(user, b"y\n")
    assert {"drill@1": 1.0} == user.serving()
    one = json.loads(user.run("drill", "dead", "--here", "--yes", "--json").stdout)
    assert (True, "drill@1", "drill@3") == (one["passed"], one["restored"], one["withdrawn"])
    drifted = json.loads(user.run("drill", "drift", "--here", "--yes", "--json").stdout)
    assert drifted["passed"], drifted
    assert {"drill@1": 1.0} == user.serving()
    assert "cannot be played on the live stack" in user.run("drill", "leak", "--here", "--yes", code=7).stderr
    assert "Prometheus and Alertmanager, and they do not run" in user.run("drill", "stable", "--here", "--yes", code=7).stderr


@pytest.mark.slow
def test_a_model_of_somebody_elses_is_not_touched(user: User) -> None:
    """Whatever it is called."""
    model = user.folder / "m.onnx"
    write_graph(model, load_marked()[0], "")
    user.run("import", str(model), "--model", "drill", "-m", "mine")
    refused = user.run("drill", "nan", "--here", "--yes", code=6)
    assert "a model named 'drill' is here that is no drill's" in refused.stderr
    assert {} == user.serving()


def at_a_terminal(user: User, typed: bytes) -> bytes:
    """Play nan at a terminal where somebody types; give what it showed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lastgood", "drill", "nan", "--here"]
    process = subprocess.Popen(command, cwd=user.folder, env=user.environment, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    os.write(ours, typed)
    assert process.stdout is not None
    with process.stdout as output:
        shown, noted = output.read(), b""
    process.wait(120)
    try:
        while part := os.read(ours, 4096):
            noted += part
    except OSError:  # the other end is closed, which Linux tells so
        os.close(ours)
    assert b"[y/N]" in noted
    return shown + noted
