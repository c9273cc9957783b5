"""Versions that come as an ONNX file or as an exported folder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lastgood.errors import IntegrityError
from lastgood.registry.bundle import export_version, import_path
from lastgood.registry.content import Golden
from lastgood.registry.errors import ContentMismatchError, FolderNotEmptyError, InvalidSourceError
from lastgood.registry.golden import read_golden
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.runtime import UnsupportedModelError
from lastgood.settings import Settings
from tests.registry.places import name_of

Add = Callable[..., Version]


def write_model(
    path: Path, operator: str = "Identity", *, rows: str | int = "n", element: int = TensorProto.FLOAT, **attributes: int
) -> Path:
    """Write a model with one operator from x (rows, 4) to y."""
    x = helper.make_tensor_value_info("x", element, [rows, 4])
    y = helper.make_tensor_value_info("y", element, [rows, 4])
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], "graph", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_an_onnx_file_becomes_a_version_with_golden_examples(registry: Registry, tmp_path: Path) -> None:
    """Its signature is read, requests may be joined, and the examples hold what the file answers."""
    imported = import_path(registry, write_model(tmp_path / "net.onnx"), model="digits", actor="ada", why="a gift")
    assert imported.version is not None
    assert () == imported.notes
    content = registry.content(imported.digest)
    assert (0, Golden("golden.npz", 1e-3, 1e-4)) == (content.batching, content.golden)
    assert [("x", "FP32", (-1, 4))] == [(spec.name, spec.datatype, spec.shape) for spec in content.inputs]
    inputs, outputs = read_golden(registry.materialize(imported.digest, tmp_path / "out") / "golden.npz")
    assert inputs["x"].shape == (8, 4)
    np.testing.assert_array_equal(inputs["x"], outputs["y"])
    assert ("ada", "a gift") == (registry.record(imported.digest).author, registry.record(imported.digest).why)


def test_importing_twice_gives_the_same_digest(registry: Registry, tmp_path: Path) -> None:
    """The examples made up are the same each time."""
    path = write_model(tmp_path / "net.onnx")
    first, second = (import_path(registry, path, model="digits", actor="ada") for _ in range(2))
    assert first.version is not None
    assert second.version is not None
    assert (first.digest, 1, False) == (second.digest, second.version.number, second.version.new)


def test_a_dry_run_gives_the_digest_and_registers_nothing(registry: Registry, tmp_path: Path) -> None:
    """What would be registered is what is registered."""
    path = write_model(tmp_path / "net.onnx")
    tried = import_path(registry, path, model="digits", actor="ada", dry_run=True)
    assert (None, []) == (tried.version, registry.models())
    assert tried.digest == import_path(registry, path, model="digits", actor="ada").digest


def test_rows_that_depend_on_each_other_are_not_joined(registry: Registry, tmp_path: Path) -> None:
    """A model that mixes its rows would answer one request with another's data."""
    imported = import_path(registry, write_model(tmp_path / "net.onnx", "Softmax", axis=0), model="digits", actor="ada")
    content = registry.content(imported.digest)
    assert content.batching is None
    assert content.golden is not None
    assert "not joined" in imported.notes[0]


def test_a_fixed_first_axis_is_not_joined(registry: Registry, tmp_path: Path) -> None:
    """It has examples of its own size."""
    imported = import_path(registry, write_model(tmp_path / "net.onnx", rows=3), model="digits", actor="ada")
    assert registry.content(imported.digest).batching is None
    assert read_golden(registry.materialize(imported.digest, tmp_path / "out") / "golden.npz")[0]["x"].shape == (3, 4)


@pytest.mark.parametrize(
    ("operator", "element"), [("Identity", TensorProto.INT64), ("RandomNormalLike", TensorProto.FLOAT), ("Log", TensorProto.FLOAT)]
)
def test_without_examples_a_person_is_told(registry: Registry, tmp_path: Path, operator: str, element: int) -> None:
    """Integers cannot be made up; answers that differ each time or are not finite are no examples."""
    imported = import_path(registry, write_model(tmp_path / "net.onnx", operator, element=element), model="digits", actor="ada")
    assert registry.content(imported.digest).golden is None
    assert "No golden examples" in imported.notes[0]


def test_a_file_that_is_no_model_is_named(registry: Registry, tmp_path: Path) -> None:
    """The message names the file the person gave, not a copy of it."""
    path = tmp_path / "net.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(UnsupportedModelError, match=str(path)):
        import_path(registry, path, model="digits", actor="ada")
    assert [] == registry.models()


def test_a_model_whose_weights_lie_beside_it_is_refused(registry: Registry, tmp_path: Path) -> None:
    """Served alone it could not be loaded, so it is not registered alone either."""
    weights = numpy_helper.from_array(np.ones((4, 400), np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 4), ("y", 400)))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "graph", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    with pytest.raises(UnsupportedModelError, match=r"net\.onnx"):
        import_path(registry, tmp_path / "net.onnx", model="digits", actor="ada")


def test_an_exported_version_comes_back_under_the_same_digest(registry: Registry, add: Add, tmp_path: Path) -> None:
    """In another installation, with its record; a reason given replaces the recorded one."""
    version = add("a", commit="abc", metrics={"accuracy": 0.5})
    names = export_version(registry, version.digest, tmp_path / "out")
    assert sorted(names) == sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file())
    with Registry.open(Settings(project=tmp_path, home=tmp_path / "other"), writer="test") as other:
        imported = import_path(other, tmp_path / "out", model="numbers", actor="bob")
        assert version.digest == imported.digest
        assert registry.record(version.digest) == other.record(version.digest)
        assert other.resolve("numbers").created_by == "bob"
        assert other.verify().ok


@pytest.mark.parametrize("name", ["model.onnx", "content.json"])
def test_a_changed_export_is_refused(registry: Registry, add: Add, tmp_path: Path, name: str) -> None:
    """Bytes that are not the ones the content lists are not registered under it."""
    export_version(registry, add("a").digest, tmp_path / "out")
    path = tmp_path / "out" / name
    path.chmod(0o644)
    path.write_bytes(b"{}" if name == "content.json" else b"x" + path.read_bytes()[1:])
    with pytest.raises(IntegrityError) as raised:
        import_path(registry, tmp_path / "out", model="other", actor="ada")
    assert name == "content.json" or isinstance(raised.value, ContentMismatchError)
    assert ["digits"] == registry.models()


def test_content_of_an_export_cannot_name_files_outside(registry: Registry, add: Add, tmp_path: Path) -> None:
    """A folder from a stranger does not make lastgood read or write somewhere else."""
    export_version(registry, add("a").digest, tmp_path / "out")
    content = json.loads((tmp_path / "out/content.json").read_bytes())
    content["files"][0]["path"] = "../secret"
    (tmp_path / "out/content.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(IntegrityError, match=r"\.\./secret"):
        import_path(registry, tmp_path / "out", model="other", actor="ada")


@pytest.mark.parametrize("record", [b"{}", b"[", b'{"author": 1, "why": ""}', None])
def test_an_export_without_a_readable_record_is_refused(registry: Registry, add: Add, tmp_path: Path, record: bytes | None) -> None:
    """The message names the file."""
    export_version(registry, add("a").digest, tmp_path / "out")
    path = tmp_path / "out/record.json"
    path.unlink()
    if record is not None:
        path.write_bytes(record)
    with pytest.raises(InvalidSourceError, match=r"record\.json"):
        import_path(registry, tmp_path / "out", model="other", actor="ada")


def test_export_writes_only_where_nothing_is(registry: Registry, add: Add, tmp_path: Path) -> None:
    """An empty folder will do, a full one or a file will not, and nothing is written then."""
    digest = add("a").digest
    (tmp_path / "empty").mkdir()
    export_version(registry, digest, tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("ten years", "utf-8")
    for path in (tmp_path / "full", tmp_path / "full/thesis.txt"):
        with pytest.raises(FolderNotEmptyError, match=path.name):
            export_version(registry, digest, path)
    assert ["thesis.txt"] == [path.name for path in (tmp_path / "full").iterdir()]


def test_an_export_of_a_damaged_version_leaves_nothing(registry: Registry, add: Add, tmp_path: Path) -> None:
    """No folder appears that looks like an export."""
    version = add("a")
    registry._files.store._objects.write(name_of(registry.content(version.digest).files[0].sha256), b"x")
    with pytest.raises(IntegrityError, match=r"labels\.txt"):
        export_version(registry, version.digest, tmp_path / "deep" / "out")
    assert [] == list((tmp_path / "deep").iterdir())
