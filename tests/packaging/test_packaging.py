"""Guards of the layout: folders at the root, one import package, nothing that breaks Python's own modules."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from onnx import TensorProto, helper

ROOT = Path(__file__).parents[2]
FOLDERS = ("compression", "flows", "grafana", "monitoring", "pipelines", "registry", "serving")


def test_every_folder_is_linked_into_the_package() -> None:
    """With a relative link, which a checkout elsewhere keeps."""
    for name in FOLDERS:
        link = ROOT / "src" / "lastgood" / name
        assert link.is_symlink()
        assert Path("..", "..", name) == link.readlink()


def test_compression_is_no_regular_package_at_the_root() -> None:
    """Python 3.14 has a standard package of this name; with __init__.py ours would hide it."""
    assert not (ROOT / "compression" / "__init__.py").exists()


def test_no_test_folder_is_a_package() -> None:
    """importmode=importlib wants none."""
    assert [] == list((ROOT / "tests").rglob("__init__.py"))


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_data_file(tmp_path: Path) -> None:
    """Built as a release would be, without the network."""
    command = [sys.executable, "-m", "uv", "build", "--wheel", "--offline", "--no-build-isolation", "--out-dir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert 0 == done.returncode, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src" / "lastgood"
    wanted = {
        f"lastgood/{path.relative_to(folder.parent)}"
        for folder in [package / name for name in FOLDERS]
        for path in folder.rglob("*")
        if path.suffix in {".py", ".html", ".tmpl"} and "__pycache__" not in path.parts
    }
    wanted |= {f"lastgood/{path.relative_to(package)}" for part in ("cli", "drill", "stack") for path in (package / part).rglob("*.py")}
    assert wanted
    assert [] == sorted(wanted - held)


SERVING_MODULES = """
import sys
import lastgood.serving.gateway.program, lastgood.serving.replica.serve, lastgood.serving.replica.model
heavy = {"tensorflow", "tf_keras", "keras", "prefect", "sklearn", "tf2onnx", "matplotlib", "pandas"} & set(sys.modules)
sys.exit(f"imported: {sorted(heavy)}" if heavy else 0)
"""


def test_the_serving_path_imports_neither_tensorflow_nor_prefect() -> None:
    """In a fresh process, with everything installed beside it."""
    done = subprocess.run([sys.executable, "-c", SERVING_MODULES], capture_output=True, text=True, timeout=60, check=False)
    assert 0 == done.returncode, done.stderr


def test_prefects_server_can_be_imported_with_the_pinned_versions() -> None:
    """Some combinations resolve, pass every check, and die here."""
    done = subprocess.run(
        [sys.executable, "-c", "import prefect.server.api.server"], capture_output=True, text=True, timeout=120, check=False
    )
    assert 0 == done.returncode, done.stderr


def test_nothing_that_serves_counts_its_use(tmp_path: Path) -> None:
    """Opening a session leaves no file in the person's home: no device id, no database of events."""
    program = "import sys; from lastgood.runtime import open_session; open_session(open(sys.argv[1], 'rb').read())"
    model = tmp_path / "model.onnx"
    tensor = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "m", [tensor], [answer])
    model.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    home = tmp_path / "home"
    home.mkdir()
    variables = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY" and not name.startswith("XDG_")}
    subprocess.run([sys.executable, "-c", program, str(model)], env={**variables, "HOME": str(home)}, check=True, timeout=60)
    assert [] == list(home.rglob("*"))
