"""``lastgood predict`` against a real gateway: each kind of file, what is printed and written, and what is wrong as a sentence."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper
from PIL import Image

from lastgood.cli import run as run_command
from lastgood.tensors import DATATYPES, TensorSpec

if TYPE_CHECKING:
    from tests.serving.conftest import Tools, Version, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
Capture = pytest.CaptureFixture[str]
Predict = Callable[..., tuple[int, str, str]]
DOCUMENT = Path(__file__).parents[2] / "docs" / "client.md"


@pytest.fixture
def predict(tools: "Tools", run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Predict:
    """Serve versions of model m, the first one to everybody, run the command, and give exit code, output and complaints."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lastgood.toml").touch()

    def go(served: "list[Version]", *arguments: str) -> tuple[int, str, str]:
        codes: list[int] = []

        async def scenario() -> None:
            async with tools.open_gateway() as gateway:
                live, *others = [tools.make_lane(await gateway.add(version, number)) for number, version in enumerate(served, 1)]
                gateway.route(live, others[0] if others else None)
                monkeypatch.setenv("LASTGOOD_PORT_REST", str(gateway.plane.port))
                codes.append(await asyncio.to_thread(run_command, ["predict", *arguments]))

        run(scenario)
        captured = capsys.readouterr()
        return codes[0], captured.out, captured.err

    return go


def test_arrays_and_a_table(predict: Predict, versions: "Versions") -> None:
    """One line for each row, with the version and its role."""
    np.savez("x.npz", np.array([[1, 2, 3], [4, 5, 6.5]]))
    code, out, err = predict([versions.linear()], "m", "--file", "x.npz")
    lines = [re.split(r"\s{2,}", line) for line in out.splitlines()]
    assert (0, "") == (code, err)
    assert [
        ["version", "role", "output", "datatype", "shape", "row", "values"],
        ["m@1", "live", "y", "FP32", "[2, 3]", "0", "3, 5, 7"],
        ["m@1", "live", "y", "FP32", "[2, 3]", "1", "9, 11, 14"],
    ] == lines


def test_many_rows_are_cut_and_it_says_so(predict: Predict, versions: "Versions") -> None:
    """A table is for a person; the file has everything."""
    np.savez("x.npz", np.zeros((50, 3)))
    code, out, err = predict([versions.linear()], "m", "--file", "x.npz", "--out", "y.npz")
    assert (0, 22) == (code, len(out.splitlines()))
    assert "30 more rows: --json or --out" in out
    assert "1 arrays were written to y.npz.\n" == err
    with np.load("y.npz", allow_pickle=False) as found:
        assert [("y", (50, 3), np.float32)] == [(name, found[name].shape, found[name].dtype) for name in found.files]
        assert [1.0] == np.unique(found["y"]).tolist()


def test_json_in_and_the_protocols_answer_out(predict: Predict, versions: "Versions") -> None:
    """A plain list, and a whole request whose id comes back; one version can be asked for."""
    served = [versions.linear(2, 1), versions.linear(3, 5)]
    Path("x.json").write_text("[[1, 2, 3]]")
    code, out, _ = predict(served, "m", "--file", "x.json", "--version", "2", "--json")
    answer = json.loads(out)
    assert (0, "m", "2") == (code, answer["model_name"], answer["model_version"])
    assert [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [8.0, 11.0, 14.0]}] == answer["outputs"]
    request = {"id": "mine", "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    Path("x.json").write_text(json.dumps(request))
    code, out, _ = predict(served, "m", "--file", "x.json", "--json")
    assert (0, "mine", [3.0, 5.0, 7.0]) == (code, json.loads(out)["id"], json.loads(out)["outputs"][0]["data"])


def test_every_datatype_from_arrays_to_arrays(predict: Predict, versions: "Versions") -> None:
    """What was sent to a model that gives back what it gets is what is written."""
    names = ["BOOL", "UINT8", "INT16", "INT64", "UINT64", "FP16", "FP32", "FP64", "BYTES"]
    given: dict[str, Any] = {f"in_{name}": np.array([[0, 1, 1]], DATATYPES[name]) for name in names if name != "BYTES"}
    given["in_BYTES"] = np.array([["", "ü", "long text"]])
    np.savez("x.npz", **given)
    code, out, _ = predict([versions.all_datatypes(names)], "m", "--file", "x.npz", "--out", "y.npz")
    assert 0 == code
    assert all(name in out for name in [*names, "long text"])
    with np.load("y.npz", allow_pickle=False) as found:
        for name in names:
            assert given[f"in_{name}"].tolist() == found[f"out_{name}"].tolist()
            assert given[f"in_{name}"].dtype == found[f"out_{name}"].dtype


def test_an_image(predict: Predict, versions: "Versions") -> None:
    """As the model's metadata says, with a word about what was changed."""
    dots = np.zeros((16, 16), np.uint8)
    dots[:8] = 255
    Image.fromarray(dots).save("a.png")
    code, _, err = predict([versions.identity("FP32", (-1, 8, 8, 1))], "m", "--file", "a.png", "--out", "y.npz")
    assert (0, "a.png is 16 by 16 pixels; it was resized to 8 by 8.") == (code, err.splitlines()[0])
    with np.load("y.npz", allow_pickle=False) as found:
        assert (dots[::2, ::2] / 255).tolist() == found["y"][0, :, :, 0].tolist()
    code, _, err = predict([versions.linear()], "m", "--file", "a.png")
    assert (2, True) == (code, "Input 'x' (FP32 [-1, 3]) is no image" in err)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("m", "--file", "gone.npz"), 2, "There is no file gone.npz"),
        (("m", "--file", "x.txt"), 2, "expected one of: .npz, .json"),
        (("m", "--file", "x.npz", "--out", "y.json"), 2, "expected .npz"),
        (("m", "--file", "x.npz", "--version", "x"), 2, "whole number"),
        (("m", "--file", "x.npz", "--version", "7"), 4, "no version '7'"),
        (("m", "--file", "x.npz", "--timeout", "0"), 2, "above 0"),
        (("m", "--file", "x.npz", "--timeout", "nan"), 2, "above 0"),
        (("other", "--file", "x.npz"), 4, "No model 'other'"),
        (("m", "--file", "wide.npz"), 2, "inputs[0].shape is [1, 4]; input 'x' takes [-1, 3]"),
        (("m", "--file", "large.npz"), 2, "16777216"),
    ],
)
def test_what_is_wrong_is_a_sentence(predict: Predict, versions: "Versions", arguments: tuple[str, ...], code: int, words: str) -> None:
    """With the exit code of its kind."""
    np.savez("x.npz", np.zeros((1, 3)))
    np.savez("wide.npz", np.zeros((1, 4)))
    np.savez_compressed("large.npz", np.zeros((1_500_000, 3), np.float32))
    found, out, err = predict([versions.linear()], *arguments)
    assert (code, "") == (found, out)
    assert words in err
    assert 1 == len(err.splitlines())


def test_nobody_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture) -> None:
    """And exit code 7, after a few attempts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTGOOD_PORT_REST", "1")
    np.savez("x.npz", np.zeros((1, 3)))
    assert 7 == run_command(["predict", "m", "--file", "x.npz"])
    assert "Tried 4 times" in capsys.readouterr().err


def test_the_documents_programs_run(
    tools: "Tools", run: Run, versions: "Versions", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a model of that shape; other tests run beside this one, so with more time than they say."""
    monkeypatch.chdir(tmp_path)
    programs = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert 2 == len(programs)
    inputs, outputs = [TensorSpec("measurements", "FP32", (-1, 30))], [TensorSpec("classes", "FP32", (-1, 30))]
    model = tools.build_model([helper.make_node("Identity", ["measurements"], ["classes"])], inputs, outputs)
    version = versions.write(model, inputs, outputs)

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(version)
            monkeypatch.setenv("LASTGOOD_PORT_REST", str(gateway.plane.port))
            for program in programs:
                command = [sys.executable, "-c", program.replace('"tumour"', '"m"').replace("seconds=2.0", "seconds=30.0")]
                done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=60)
                assert (0, "") == (done.returncode, done.stderr)
                assert re.search(r"^1 live .*\(\d+, 30\)$", done.stdout, re.MULTILINE), done.stdout

    run(scenario)
