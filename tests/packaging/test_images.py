"""The images of the Dockerfile, built and run on a real engine as a person would run them."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from onnx import TensorProto, helper

from lastgood import __version__
from lastgood.ports import free_ports
from lastgood.serving.client import Control, Predictor
from lastgood.settings import Settings

if TYPE_CHECKING:
    from tests.conftest import Engine

ROOT = Path(__file__).parents[2]
HARD = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--pids-limit=256", "--memory=1g")
# What the replicas and the gateway ask of the kernel.
KERNEL = """
import os, signal, subprocess, sys, threading
descriptor = os.memfd_create("x", os.MFD_ALLOW_SEALING)
os.posix_fallocate(descriptor, 0, 1 << 20)
os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
child = subprocess.Popen(["sleep", "60"])
handle = os.pidfd_open(child.pid)
signal.pidfd_send_signal(handle, signal.SIGKILL)
print(child.wait(), os.getuid(), os.getgid())
"""
FORBIDDEN = "import importlib.util as i; print([n for n in ('tensorflow', 'prefect', 'sklearn', 'tf2onnx', 'pip') if i.find_spec(n)])"


def inspect(engine: "Engine", name: str) -> dict[str, Any]:
    """Give what the engine says of an image or container."""
    (found,) = json.loads(engine.docker("inspect", name))
    return dict(found)


def test_the_linter_finds_nothing_to_say() -> None:
    """Hadolint, as strict as it can be."""
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [program, "--failure-threshold", "style", ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (0, "") == (done.returncode, done.stdout)


def test_the_linter_can_find_something(tmp_path: Path) -> None:
    """A root user and an unpinned base are refused, so the test above can fail."""
    program = Path(sys.executable).parent / "hadolint"
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp && pip install lastgood\nUSER root\n", "utf-8")
    done = subprocess.run([program, tmp_path / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert 1 == done.returncode
    assert {"DL3002", "DL3006", "DL3013"} <= set(done.stdout.split())


def test_every_folder_of_the_package_reaches_the_build() -> None:
    """A folder that is linked into the package and kept from the engine would be missing in the images, silently."""
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    linked = {path.name for path in (ROOT / "src" / "lastgood").iterdir() if path.is_symlink()}
    assert linked
    assert set() == linked - let_through


@pytest.mark.slow
@pytest.mark.system
def test_serve_is_small_labelled_and_nobody(engine: "Engine", serve_image: str) -> None:
    """Under 400 MB, with what it is, for an account without rights, and without what serving does not need."""
    image = inspect(engine, serve_image)
    assert image["Size"] < 400_000_000
    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): value for name, value in image["Config"]["Labels"].items() if name.startswith(prefix)}
    assert ("lastgood-serve", __version__, "0123abc", "Apache-2.0") == tuple(
        labels[name] for name in ("title", "version", "revision", "licenses")
    )
    assert "65532:65532" == image["Config"]["User"]
    said = engine.docker("run", "--rm", "--network=none", *HARD, serve_image, "/opt/lastgood/bin/python", "-Ic", FORBIDDEN)
    assert "[]" == said.strip()


@pytest.mark.slow
@pytest.mark.system
def test_no_index_and_no_machine_path_is_left_in_the_image(engine: "Engine", serve_image: str) -> None:
    """Neither in its history nor in pip's configuration."""
    history = engine.docker("history", "--no-trunc", "--format={{.CreatedBy}}", serve_image)
    assert str(ROOT) not in history
    assert "index" not in history.replace("PIP_NO_INDEX", "").lower()
    script = "import pathlib; print([str(p) for p in pathlib.Path('/').glob('**/pip.conf')], pathlib.Path('/wheelhouse').exists())"
    assert "[] False" == engine.docker("run", "--rm", "--network=none", "--user=0", serve_image, "python", "-c", script).strip()


@pytest.mark.slow
@pytest.mark.system
def test_what_serving_asks_of_the_kernel_is_allowed(engine: "Engine", serve_image: str) -> None:
    """Shared memory, priorities and process handles, without capabilities and as nobody."""
    assert "-9 65532 65532" == engine.docker("run", "--rm", "--network=none", *HARD, serve_image, "python", "-c", KERNEL).strip()


@pytest.fixture
def home(engine: "Engine") -> Iterator[str]:
    """A volume for the gateway's home."""
    engine.docker("volume", "create", "lastgood-home")
    yield "lastgood-home"
    engine.docker("volume", "rm", "--force", "lastgood-home")


@pytest.fixture
def serving_home(engine: "Engine", serve_image: str, home: str, tmp_path: Path) -> str:
    """A home with version 1 of m, y = 2x, imported with the image's own command line."""
    (tmp_path / "import").mkdir()
    (tmp_path / "import" / "double.onnx").write_bytes(make_double())
    mounts = ["--mount", f"type=volume,source={home},target=/var/lib/lastgood"]
    mounts += ["--mount", f"type=bind,source={tmp_path / 'import'},target=/import,readonly", "--tmpfs=/tmp"]
    said = engine.docker(
        "run", "--rm", "--network=none", *HARD, *mounts, serve_image, "lastgood", "import", "/import/double.onnx", "--model", "m"
    )
    assert "m@1" in said
    return home


def make_double() -> bytes:
    """Give the graph y = x + x."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.slow
@pytest.mark.system
def test_the_gateway_runs_on_a_read_only_root_and_says_that_it_is_well(
    engine: "Engine", serve_image: str, serving_home: str, tmp_path: Path
) -> None:
    """As nobody, with a volume as home and a token from a secret file: it is healthy, serves a version, and ends in order."""
    rest, rpc, control = free_ports(3)
    token = tmp_path / "token"
    token.write_text("a-secret\n", "utf-8")
    token.chmod(0o444)
    variables = {
        "LASTGOOD_HOST": "0.0.0.0",
        "LASTGOOD_TOKEN_FILE": "/run/secrets/token",
        "LASTGOOD_PORT_REST": str(rest),
        "LASTGOOD_PORT_GRPC": str(rpc),
        "LASTGOOD_PORT_CONTROL": str(control),
    }
    options = [option for name, value in variables.items() for option in ("--env", f"{name}={value}")]
    options += ["--mount", f"type=bind,source={token},target=/run/secrets/token,readonly"]
    options += ["--mount", f"type=volume,source={serving_home},target=/var/lib/lastgood", "--tmpfs=/tmp"]
    # The tests' engine has no bridge; the host's network stands in for a published port.
    engine.docker("run", "--detach", "--name=gateway", "--network=host", "--health-interval=1s", *HARD, *options, serve_image)
    try:
        wait_until_healthy(engine, "gateway")
        settings = Settings(
            project=tmp_path,
            home=tmp_path,
            port_rest=rest,
            port_control=control,
            token_file=token,
            database="sqlite:////var/lib/lastgood/registry/catalogue.db",
        )
        with Control(settings) as controls, Predictor(settings) as predictor:
            policy = {"soak_requests": 1, "soak_seconds": 0}
            controls.deploy("m@1", strategy="direct", policy=policy, actor="ada", why="a test")
            assert any(state["lanes"] and state["lanes"][0]["ready"] for state in controls.watch("m", seconds=60))
            answer = predictor.infer("m", [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [21]}])
            assert [42] == answer["outputs"][0]["data"]
        with grpc.insecure_channel(f"127.0.0.1:{rpc}") as channel:
            assert channel.unary_unary("/inference.GRPCInferenceService/ServerReady")(b"", timeout=5)
        assert 401 == httpx.get(f"http://127.0.0.1:{rest}/v2/models/m", timeout=5).status_code
        assert "a-secret" not in engine.docker("logs", "gateway") + engine.docker("inspect", "gateway")
        engine.docker("stop", "--time=20", "gateway")
        assert 0 == inspect(engine, "gateway")["State"]["ExitCode"]
    finally:
        engine.docker("rm", "--force", "gateway")


def wait_until_healthy(engine: "Engine", container: str) -> None:
    """Wait for the image's own health check; fails with the container's log."""
    deadline = time.monotonic() + 120  # other images may be built at the same time
    while (state := inspect(engine, container)["State"])["Health"]["Status"] != "healthy":
        assert state["Running"], engine.docker("logs", container)
        assert time.monotonic() < deadline, state["Health"]
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.system
def test_the_recipe_of_train_gives_workers_and_a_command_line_without_git(engine: "Engine", train_image: str) -> None:
    """Prefect's worker is the default command, and provenance says that there is no commit."""
    image = inspect(engine, train_image)
    assert ["prefect", "worker", "start", "--pool", "lastgood"] == image["Config"]["Cmd"]
    assert "lastgood-train" == image["Config"]["Labels"]["org.opencontainers.image.title"]
    run = ("run", "--rm", "--network=none", *HARD, "--tmpfs=/tmp", "--tmpfs=/var/lib/lastgood:uid=65532,gid=65532", train_image)
    assert "Start a worker process" in engine.docker(*run, "prefect", "worker", "start", "--help")
    script = (
        "from pathlib import Path; import lastgood.flows.release, jenkinsapi, lastgood.pipelines.provenance as p;"
        "print(p.read_commit(Path('/project')), p.read_author(Path('/project')))"
    )
    assert "(None, None) lastgood" == engine.docker(*run, "python", "-c", script).strip().splitlines()[-1]
    assert "Release model versions" in engine.docker(*run, "lastgood", "--help")
