"""Two versions on the same rows: models whose answers are known beforehand, counted, tested, measured and drawn."""

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from scipy.stats import binom

from lastgood.cli import run
from lastgood.errors import UsageError
from lastgood.pipelines.compare.behaviour import Behaviour, compare_behaviour
from lastgood.pipelines.compare.flips import count_flips, count_matrix
from lastgood.pipelines.compare.importance import measure_importance
from lastgood.pipelines.compare.page import PICTURES, write_page
from lastgood.pipelines.compare.parts import PARTS_MAX, list_parts
from lastgood.pipelines.errors import IncomparableError, PipelineNotFoundError
from lastgood.pipelines.evaluation import Evaluation
from lastgood.registry.compare.versions import compare_versions
from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.runtime import open_session, read_signature
from lastgood.settings import Settings

ROWS = 400
# Three classes by the largest of the first three features; the fourth says nothing.
PIPELINE = f"""
import numpy as np
from lastgood.pipelines import Data, Pipeline

class Three(Pipeline):
    def load(self):
        rng = np.random.default_rng(1)
        x = rng.normal(size=({ROWS}, 4)).astype(np.float32)
        y = x[:, :3].argmax(axis=1)
        return Data(train=(x, y), evaluation={{"clean": (x, y), "small": (x[:40] / 8, y[:40])}})

    def slices(self, x, y):
        return {{"first": y == 0, "nobody": y > 5}}
"""
IMAGES = """
import numpy as np
from lastgood.pipelines import Data, Pipeline

class Pictures(Pipeline):
    def load(self):
        rng = np.random.default_rng(1)
        x = rng.uniform(size=(300, 8, 8, 1)).astype(np.float32)
        y = (x[:, :4].mean(axis=(1, 2, 3)) > x[:, 4:].mean(axis=(1, 2, 3))).astype(int)
        return Data(train=(x, y), evaluation={"<b>all</b>": (x, y)})
"""
Matrix = np.ndarray[Any, Any]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTGOOD_HOME", str(tmp_path / "home"))
    (tmp_path / "lastgood.toml").touch()
    (tmp_path / "three.py").write_text(PIPELINE, "utf-8")
    (tmp_path / "pictures.py").write_text(IMAGES, "utf-8")
    return Settings(project=tmp_path, home=tmp_path / "home")


@pytest.fixture
def registry(project: Settings) -> Iterator[Registry]:
    with Registry.open(project, writer="test") as opened:
        yield opened


def add(registry: Registry, weights: Matrix, *, model: str = "three", shape: tuple[int | str, ...] = ("n", 4), outputs: int = 1) -> Version:
    """Register a model of one matrix: scores are the input, flattened, times it."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weights.shape[1]] if outputs else ["n"])
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y" if outputs else "z"])]
    nodes += [] if outputs else [helper.make_node("ReduceSum", ["z"], ["y"], keepdims=0, axes=[1])]
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(weights.astype(np.float32), "w")])
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=9).SerializeToString()
    file = registry._files.store.locate("0" * 64)  # any place in the test's own folder will do
    path = Path(file).parents[3] / f"{hashlib.sha256(data).hexdigest()}.onnx"
    path.write_bytes(data)
    inputs, given_back = read_signature(open_session(data))
    content = Content((FileEntry("model.onnx", len(data), hashlib.sha256(data).hexdigest()),), inputs, given_back, 0)
    return registry.register(model, content, {"model.onnx": path}, Record(author="ada", why="because"), actor="ada")


RIGHT = np.vstack([np.eye(3), np.zeros(3)])
SWAPPED = RIGHT[:, [1, 0, 2]]  # takes the first class for the second


def test_flips_are_counted_by_set_and_slice_and_told_by_row(project: Settings, registry: Registry) -> None:
    """Against the answers computed by hand."""
    found, evaluation = compare_behaviour(project, registry, add(registry, RIGHT), add(registry, SWAPPED))
    counts = np.bincount(evaluation.y, minlength=3)
    lost = int(counts[0] + counts[1])
    assert (len(evaluation.y), lost, 0, 0) == (found.overall.rows, found.overall.lost, found.overall.won, found.overall.switched)
    assert [[0, counts[0], 0], [counts[1], 0, 0], [0, 0, 0]] == found.matrix
    assert {"clean": ROWS, "small": 40} == {own.name: own.rows for own in found.sets}
    (first,) = found.slices  # the one without rows is left out
    assert ("first", counts[0], counts[0]) == (first.name, first.rows, first.lost)
    assert lost == len(found.flipped)
    for flip in found.flipped:
        own = evaluation.sets[flip.set]
        assert (int(own.y[flip.row]), int(own.x[flip.row, :3].argmax()), "lost") == (flip.expected, flip.before, flip.kind)
    apart = [np.abs(own.x[:, :3] @ (SWAPPED[:3] - RIGHT[:3])) for own in evaluation.sets.values()]
    assert np.concatenate(apart).mean() == pytest.approx(found.differences["all"].mean, rel=1e-5)
    assert apart[1].mean() == pytest.approx(found.differences["small"].mean, rel=1e-5)
    assert apart[0].max() == pytest.approx(found.differences["clean"].largest, rel=1e-5)


def test_every_kind_of_flip_is_told_apart(project: Settings, registry: Registry) -> None:
    """Wrong in one way and then in another is neither lost nor won."""
    found, _ = compare_behaviour(project, registry, add(registry, SWAPPED), add(registry, RIGHT[:, [1, 2, 0]]))
    kinds = {
        own.kind: {(other.expected, other.before, other.after) for other in found.flipped if other.kind == own.kind}
        for own in found.flipped
    }
    assert {"lost": {(2, 2, 1)}, "switched": {(0, 1, 2)}} == kinds
    again, _ = compare_behaviour(project, registry, add(registry, SWAPPED), add(registry, RIGHT))
    assert {"won"} == {own.kind for own in again.flipped}


def test_a_version_leans_on_what_its_answers_come_from(project: Settings, registry: Registry) -> None:
    """One that looks at two features, and one that looks at the third too; none at the fourth. The same twice."""
    narrow = RIGHT.copy()
    narrow[2] = 0
    versions = add(registry, narrow), add(registry, RIGHT)
    found = compare_behaviour(project, registry, *versions)[0].importance
    parts = {own.name: own for own in found.parts}
    assert {"x[0]", "x[1]", "x[2]", "x[3]"} == set(parts)
    assert (0.0, 0.0) == (parts["x[3]"].before.mean, parts["x[3]"].after.mean)
    assert (0.0, 0.0) == (parts["x[2]"].before.mean, parts["x[2]"].before.deviation)
    assert parts["x[2]"].after.mean > 0.2
    assert parts["x[2]"].after.mean == parts["x[2]"].apart
    assert parts["x[0]"].after.deviation > 0
    assert ROWS + 40 == found.rows
    assert found == compare_behaviour(project, registry, *versions)[0].importance


def test_a_slow_model_is_measured_on_fewer_rows(project: Settings, registry: Registry, tmp_path: Path) -> None:
    """However slow it is, on 32 or more; and the parts are the same."""
    version = add(registry, RIGHT)
    evaluation = compare_behaviour(project, registry, version, version)[1]
    session = open_session(registry.materialize(version.digest, tmp_path / "served") / "model.onnx")
    found = measure_importance((session, session), evaluation, name="x", seconds=0.0)
    assert 32 <= found.rows < 64
    assert {"x[0]", "x[1]", "x[2]", "x[3]"} == {own.name for own in found.parts}


def test_a_version_is_like_itself(project: Settings, registry: Registry) -> None:
    """Nothing flips, nothing is tested, and the page says that nothing differs."""
    version = add(registry, RIGHT)
    page, behaviour, _ = make_page(project, registry, version, version)
    own = behaviour.overall
    assert (0, 0, 0, 0, 1.0, 1.0) == (own.lost, own.won, own.switched, own.originals, own.p_value, own.adjusted_p)
    assert 0.0 == behaviour.differences["all"].largest
    assert [] == behaviour.flipped
    assert all(part.apart == 0 for part in behaviour.importance.parts)
    assert "Nothing that is stored of them differs." in page.text


def test_rows_that_get_no_number_are_not_answered(project: Settings, registry: Registry) -> None:
    """They are wrong, and a class of their own."""
    broken = RIGHT.copy()
    broken[0, 0] = np.nan
    found, evaluation = compare_behaviour(project, registry, add(registry, RIGHT), add(registry, broken))
    assert ["0", "1", "2", "none"] == found.classes
    assert len(evaluation.y) == found.overall.lost == found.differences["all"].not_finite_after == sum(row[3] for row in found.matrix)
    assert 0.0 == found.differences["all"].mean  # of the two classes that did get numbers


def test_outputs_of_other_widths_have_no_difference_and_flips_nevertheless(project: Settings, registry: Registry) -> None:
    """A class more is no reason not to look."""
    wide = np.hstack([RIGHT, np.full((4, 1), 0.0)])
    found, _ = compare_behaviour(project, registry, add(registry, RIGHT), add(registry, wide))
    assert (None, None) == (found.differences["all"].mean, found.differences["all"].largest)
    assert 4 == len(found.classes)
    assert found.overall.lost > 0


def test_what_cannot_be_given_the_same_rows_is_refused_in_a_sentence(project: Settings, registry: Registry) -> None:
    """Other inputs, other rows than the pipeline's, fixed batches, no scores, no pipeline."""
    right = add(registry, RIGHT)
    other = add(registry, np.eye(5), model="other", shape=("n", 5))
    with pytest.raises(IncomparableError, match=r"three@1 and other@1 cannot be given the same rows: it takes .*'shape': \[-1, 4\]"):
        compare_behaviour(project, registry, right, other)
    with pytest.raises(PipelineNotFoundError):
        compare_behaviour(project, registry, add(registry, RIGHT, model="nobody"), add(registry, RIGHT, model="nobody"))
    five = add(registry, np.eye(5), shape=("n", 5))
    with pytest.raises(IncomparableError, match=r"three@\d takes .*5.*; the pipeline of three gives rows of FP32 \[4\]"):
        compare_behaviour(project, registry, five, five)
    for version in (add(registry, RIGHT, shape=(7, 4)), add(registry, RIGHT, outputs=0)):
        with pytest.raises(IncomparableError, match="expected any number of rows, and a score for each class"):
            compare_behaviour(project, registry, version, version)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 20))
def test_the_test_is_mcnemars(lost: int, won: int, both: int) -> None:
    """Where every row is its own original: twice the binomial tail, 1 at most."""
    before = np.array([1] * lost + [0] * won + [1] * both + [0])
    after = np.array([0] * lost + [1] * won + [1] * both + [0])
    found = count_flips("all", np.ones(len(before), np.int64), before, after, np.arange(len(before)))
    tail = min(1.0, 2 * float(binom.cdf(min(lost, won), lost + won, 0.5)))
    assert (lost, won, lost + won) == (found.lost, found.won, found.originals)
    assert tail == pytest.approx(found.p_value)


@given(st.integers(0, 2**31), st.integers(2, 9))
def test_copies_of_an_original_are_one_witness(seed: int, copies: int) -> None:
    """However often a row is there, the test says the same; and swapping the versions does too."""
    rng = np.random.default_rng(seed)
    expected, before, after = rng.integers(0, 3, (3, 60))
    once = count_flips("all", expected, before, after, np.arange(60))
    tiled = [np.tile(own, copies) for own in (expected, before, after, np.arange(60))]
    many = count_flips("all", tiled[0], tiled[1], tiled[2], tiled[3])
    assert once.p_value == many.p_value
    assert copies * once.lost == many.lost
    back = count_flips("all", expected, after, before, np.arange(60))
    assert [once.p_value, once.lost, once.won] == pytest.approx([back.p_value, back.won, back.lost])
    assert int((before != after).sum()) == once.lost + once.won + once.switched == sum(map(sum, count_matrix(before, after, 3)))


def test_between_equal_versions_the_test_seldom_sees_a_difference() -> None:
    """Also where rows are copies that flip together: the share of small p-values is what it says."""
    rng = np.random.default_rng(0)
    expected, groups = np.ones(500, np.int64), np.repeat(np.arange(100), 5)
    draws = [np.repeat(rng.random((2, 100)) < 0.8, 5, axis=1).astype(np.int64) for _ in range(400)]
    assert np.mean([count_flips("all", expected, own[0], own[1], groups).p_value < 0.05 for own in draws]) <= 0.05


@given(st.lists(st.integers(1, 300), min_size=1, max_size=4))
def test_parts_cover_every_element_once(shape: list[int]) -> None:
    """Whatever the shape: few enough to end, and each with a name of its own."""
    parts = list_parts("x", shape)
    covered = np.zeros([min(length, 300) for length in shape], np.int64) if np.prod(shape) < 10**6 else None
    assert len(parts) <= PARTS_MAX
    assert len(parts) == len({part.name for part in parts})
    if covered is not None:
        for part in parts:
            covered[part.place] += 1
        assert (covered == 1).all()


def test_images_are_cut_into_patches() -> None:
    """With the channel first or last; what is no image along its longest axis."""
    assert 16 == len(list_parts("image", (8, 8, 1)))
    assert 36 == len(list_parts("image", (3, 224, 224)))
    assert ["image[0:2,0:2]", "image[0:2,2:4]"] == [part.name for part in list_parts("image", (1, 4, 4))[:2]]
    assert "words[0:32]" == list_parts("words", (2048,))[0].name


class Page(HTMLParser):
    """A page's tags, what they fetch, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.pictures: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href", "data", "action"}]
        self.pictures += [value or "" for name, value in attrs if (tag, name) == ("img", "src")]
        if tag not in {"meta", "img", "br"}:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href"}]

    def handle_endtag(self, tag: str) -> None:
        assert tag == self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


def make_page(project: Settings, registry: Registry, before: Version, after: Version) -> tuple[Page, Behaviour, Evaluation]:
    behaviour, evaluation = compare_behaviour(project, registry, before, after)
    text = write_page(compare_versions(registry, before, after), behaviour, evaluation)
    return Page(text), behaviour, evaluation


def test_the_page_shows_flipped_images_as_they_are(project: Settings, registry: Registry) -> None:
    """Every picture is a PNG with the row's own pixels; nothing is fetched, and names are no markup."""
    half = np.repeat([1.0, -1.0], 32)
    right = np.stack([-half, half], axis=1)
    blurred = right.copy()
    blurred[:16] = 0
    page, behaviour, evaluation = make_page(
        project,
        registry,
        add(registry, right, model="pictures", shape=("n", 8, 8, 1)),
        add(registry, blurred, model="pictures", shape=("n", 8, 8, 1)),
    )
    assert behaviour.overall.lost > PICTURES
    assert PICTURES == len(page.pictures)
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in page.sources)
    assert "b" not in page.tags  # the set's name
    assert "<b>all</b>, row" in page.text
    assert {"What each version leans on", "Flips from class to class", "Distance by tensor"} <= set(re.split(r"\n\s*", page.text))
    from matplotlib.image import imread

    rows = [evaluation.sets[own.set].x[own.row] for own in behaviour.flipped[:PICTURES]]
    low, high = min(own.min() for own in rows), max(own.max() for own in rows)
    for source, row in zip(page.pictures, rows, strict=True):
        pixels = imread(io.BytesIO(base64.b64decode(source.partition(",")[2])), format="png")
        assert (row[..., 0] - low) / (high - low) == pytest.approx(pixels[..., 0], abs=1 / 128)


def test_the_page_stands_without_behaviour_and_with_names_that_are_markup(project: Settings, registry: Registry, tmp_path: Path) -> None:
    """Tensor names are other people's words: markup, formulas, control characters."""

    def write(scale: float) -> Version:
        names = ["<script>alert(1)</script>", "$x^", "$\\frac{$", "a\x01b", "long" * 100, "long" * 100 + "er"]
        graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(np.ones(3, np.float32) * scale, name) for name in names])
        path = tmp_path / f"{scale}.onnx"
        onnx.save(helper.make_model(graph), path)
        data = path.read_bytes()
        entry = FileEntry("model.onnx", len(data), hashlib.sha256(data).hexdigest())
        content = Content((entry,), (), (), 0)
        return registry.register("odd", content, {"model.onnx": path}, Record(author="ada", why="<i>why</i>"), actor="ada")

    page = Page(write_page(compare_versions(registry, write(1.0), write(2.0))))
    assert "script" not in page.tags
    assert "i" not in page.tags
    assert "<script>alert(1)</script>" in page.text


def test_the_command_writes_table_json_and_page(
    project: Settings, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same numbers in each, from the command line."""
    add(registry, RIGHT)
    add(registry, SWAPPED)
    assert run(["diff", "three@1", "three@2", "--behaviour", "--json", "--html", str(tmp_path / "diff.html")]) == 0
    found = json.loads(capsys.readouterr().out)
    lost = found["behaviour"]["overall"]["lost"]
    assert lost == len(found["behaviour"]["flipped"]) > 0
    assert {"lost"} == {own["kind"] for own in found["behaviour"]["flipped"]}
    assert ["w"] == [own["name"] for own in found["tensors"]]
    page = Page((tmp_path / "diff.html").read_text("utf-8"))
    assert f"{lost:,} that were right are wrong" in page.text
    assert run(["diff", "three@1", "three@2", "--behaviour"]) == 0
    text = capsys.readouterr().out
    assert f"{lost:,} that were right are wrong" in text
    assert "x[0]" in text
    assert run(["diff", "three@1", "three@2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["behaviour"] is None


@pytest.mark.parametrize("place", ["nowhere/diff.html", "."])
def test_a_page_that_cannot_be_written_is_refused_at_once(
    project: Settings, registry: Registry, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    """Before anything is read or run."""
    assert UsageError.exit_code == run(["diff", "three@1", "three@2", "--html", place])
    assert "expected a file" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "module"), [("--behaviour", "scipy"), ("--html=x.html", "matplotlib")])
def test_without_the_train_extras_a_sentence_says_what_is_missing(project: Settings, flag: str, module: str) -> None:
    """And a comparison without them needs none."""
    program = (
        "import sys, importlib.util as u; from lastgood.cli import run; find = u.find_spec;"
        f"u.find_spec = lambda name, *a: None if name == {module!r} else find(name, *a); sys.exit(run(['diff', 'a', 'b', {flag!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert UsageError.exit_code == done.returncode
    assert f"needs {module}, which is not installed; pip install 'lastgood[train]'" in done.stderr
