"""compose.yaml: what its services may do, and the whole of it on a real engine with networks, names and restarts."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from onnx import TensorProto, helper

from lastgood.cli import COMMANDS
from lastgood.serving.client import Control, ForeignGatewayError, Predictor, read_token

if TYPE_CHECKING:
    from tests.compose.conftest import Stack

ROOT = Path(__file__).parents[2]
SECRETS = {"grafana_password", "lastgood_token", "postgres_password", "prefect_client", "prefect_server"}


@pytest.fixture(scope="module")
def file() -> dict[str, Any]:
    """Give compose.yaml with its anchors resolved."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    return read


def make_secrets(folder: Path) -> str:
    """Run tools/compose-secrets; give what it said."""
    command = ["sh", str(ROOT / "tools/compose-secrets"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20, umask=0).stdout


def test_the_file_follows_the_compose_specification() -> None:
    """As the specification's own schema has it."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(ROOT / "compose.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert 0 == done.returncode, done.stdout + done.stderr


def test_no_service_may_more_than_it_needs(file: dict[str, Any]) -> None:
    """No capability, no new one, no writable root, no engine, no port but on loopback, limits, and an end to logs."""
    for name, service in file["services"].items():
        assert (True, ["ALL"], ["no-new-privileges:true"]) == (service["read_only"], service["cap_drop"], service["security_opt"]), name
        assert {"mem_limit", "pids_limit", "networks"} <= service.keys(), name
        assert "privileged" not in service, name
        assert "max-size" in service["logging"]["options"], name
        assert [] == [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")], name
        assert [] == [mount for mount in service.get("volumes", []) if "docker.sock" in mount], name
        mounts = [mount.rsplit(":", 2) for mount in service.get("volumes", []) if mount.startswith((".", "$", "/"))]
        assert [] == [mount for mount in mounts if mount[-1] != "ro"], name
        assert ("deployments" != name) == ("healthcheck" in service), name
        assert ("on-failure" if name == "deployments" else "unless-stopped") == service["restart"], name


def test_what_is_mounted_is_there(file: dict[str, Any]) -> None:
    """An engine makes an empty folder of what is not, and the service starts without its configuration."""
    sources = {
        mount.split(":")[0] for service in file["services"].values() for mount in service.get("volumes", []) if mount.startswith(".")
    }
    sources |= set(re.findall(r"\$\{PROJECT:-([^}]+)\}", (ROOT / "compose.yaml").read_text("utf-8")))
    assert {"./deploy/project", "./deploy/signals", "./grafana/dashboards", "./grafana/provisioning", "./prefect.yaml"} == sources
    assert [] == [source for source in sources if not (ROOT / source).exists()]


def test_public_images_are_pinned(file: dict[str, Any]) -> None:
    """By a tag that names a version."""
    images = {service["image"] for service in file["services"].values() if "build" not in service}
    assert 4 == len(images)
    assert [] == [image for image in images if not re.fullmatch(r"[a-z/]+:v?\d[\w.-]*", image)]


def test_the_page_says_what_listens_where(file: dict[str, Any]) -> None:
    """Every published port, its variable, every volume, and only commands that there are."""
    page = (ROOT / "docs/compose.md").read_text("utf-8")
    published = [port for service in file["services"].values() for port in service.get("ports", [])]
    found = [re.fullmatch(r"127\.0\.0\.1:\$\{(?:LASTGOOD_PORT)?(\w+):-(\d+)\}:\d+", port) for port in published]
    assert 7 == len([match for match in found if match is not None])
    assert [] == [match[0] for match in found if match and not (f"`127.0.0.1:{match[2]}`" in page and f"{match[1]}`" in page)]
    assert [] == [name for name in file["volumes"] if f"`{name}`" not in page]
    known = {name for commands in COMMANDS.values() for name, _, _ in commands}
    assert set(re.findall(r"worker lastgood (\w+)", page)) <= known


def test_secrets_are_made_once_and_are_their_owners_alone(tmp_path: Path) -> None:
    """A folder nobody else may enter, files the containers can read; a second run changes nothing; git knows none of it."""
    folder = tmp_path / "secrets"
    assert 5 == make_secrets(folder).count("made ")
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert SECRETS == set(made)
    assert {0o444} == {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert 3 == len({made[name] for name in ("grafana_password", "lastgood_token", "postgres_password")})
    assert all(re.fullmatch(rb"[0-9a-f]{64}", made[name]) for name in ("grafana_password", "lastgood_token", "postgres_password"))
    assert made["postgres_password"] in made["prefect_server"]
    (sent,) = re.findall(rb'"(admin:[0-9a-f]{64})"', made["prefect_client"])
    assert sent in made["prefect_server"]
    assert "" == make_secrets(folder)
    assert made == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "secrets/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


def write_model(path: Path, factor: float) -> None:
    """Y = factor * x for "batch 3" FP32."""
    declare = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "scale", declare[:1], declare[1:], [constant])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def ask(stack: "Stack") -> tuple[str, list[float]]:
    """Ask from outside, with the token; give which version answered what."""
    with Predictor(stack.settings()) as predictor:
        answer = predictor.infer("scale", [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}])
    return answer["model_version"], answer["outputs"][0]["data"]


def answers(stack: "Stack") -> bool:
    """Say whether the gateway answers yet."""
    try:
        return httpx.get(f"{stack.settings().control_url}/healthz", timeout=2).is_success
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.timeout(600)
def test_the_stack_serves_is_watched_and_comes_back(stack: "Stack", file: dict[str, Any]) -> None:
    """Up in order; a version imported, deployed and asked for; a killed gateway serves the same one; a flow rolls back; nothing is left."""
    make_secrets(stack.secrets)
    for number, factor in ((1, 2.0), (2, 3.0)):
        write_model(stack.project / f"{number}.onnx", factor)
    services = list(stack.services)
    with stack.watch() as order:
        stack.compose("up", "--no-build", "--detach", *services, seconds=200)
        stack.wait_until(stack.is_well, 60)
    waited = {"service_healthy": "health_status: healthy", "service_completed_successfully": "die"}
    edges = [
        (name, other, waited[how["condition"]]) for name in services for other, how in file["services"][name].get("depends_on", {}).items()
    ]
    assert 5 == len(edges)
    assert [] == [edge for edge in edges if order.index((edge[1], edge[2])) > order.index((edge[0], "start"))]
    check_confinement(stack)

    # Outside, only with the token; inside, the command line and the gateway share the registry.
    stack.run("lastgood", "import", "1.onnx", "--model", "scale", "-m", "from a colleague")
    stack.run("lastgood", "deploy", "scale@1", "-m", "first", "--wait", "live")
    stack.run("lastgood", "promote", "scale", "-m", "it is the only one")
    assert ("1", [2.0, 4.0, 6.0]) == ask(stack)
    settings = stack.settings()
    for url in (f"{settings.rest_url}/v2/models/scale", f"{settings.control_url}/metrics", f"{settings.control_url}/routes"):
        assert 401 == httpx.get(url, timeout=5).status_code
        assert 200 == httpx.get(url, headers={"authorization": f"Bearer {read_token(settings.token_file)}"}, timeout=5).status_code
    with Control(settings) as control, pytest.raises(ForeignGatewayError):
        control.ping()  # a command line outside has another registry, and must not steer this one
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.ports['PREFECT']}", timeout=5) as prefect:
        assert 401 == prefect.post("/api/deployments/filter", json={}).status_code
        assert 200 == prefect.get("/", headers={"accept": "text/html"}, follow_redirects=True).status_code

    # The gateway says of itself where a command in its own container reaches it.
    routes = stack.compose("exec", "-T", "gateway", "lastgood", "routes", "--json").stdout
    assert ["scale"] == [state["model"] for state in json.loads(routes)]
    assert "0.0.0.0" not in stack.compose("logs", "gateway").stdout

    # Watched, with the token, and told to Alertmanager.
    stack.wait_until(lambda: ["1"] == [found["value"][1] for found in stack.query('up{job="lastgood"}')], 15)
    stack.wait_until(lambda: stack.query('lastgood_requests_total{model="scale",version="1",outcome="ok"}'), 15)
    managers = httpx.get(f"http://127.0.0.1:{stack.ports['PROMETHEUS']}/api/v1/alertmanagers", timeout=5).json()
    assert ["http://alertmanager:9093/api/v2/alerts"] == [one["url"] for one in managers["data"]["activeAlertmanagers"]]

    # A crash, seen by the engine as one: it is not told by somebody to stop the container.
    before = stack.containers()["gateway"]
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    stack.wait_until(lambda: stack.containers()["gateway"]["RestartCount"] == 1, 20)
    stack.wait_until(lambda: answers(stack), 30)
    assert ("1", [2.0, 4.0, 6.0]) == ask(stack)
    assert before["Id"] == stack.containers()["gateway"]["Id"]

    # A flow in the worker reaches the gateway by its name and with the token.
    stack.run("lastgood", "import", "2.onnx", "--model", "scale", "-m", "a second one")
    stack.run("lastgood", "deploy", "scale@2", "-m", "second", "--wait", "no")
    flow = ["prefect", "deployment", "run", "rollback/rollback", "--param", "model=scale", "--param", "why=a test", "--watch"]
    stack.run(*flow, seconds=100)
    (state,) = json.loads(stack.run("lastgood", "routes", "--json").stdout)
    assert [(1, 1.0)] == [(lane["number"], lane["share"]) for lane in state["lanes"]]
    assert ("1", [2.0, 4.0, 6.0]) == ask(stack)

    # Once more changes nothing, but that the deployments are registered again.
    started = {name: one["State"]["StartedAt"] for name, one in stack.containers().items()}
    stack.compose("up", "--no-build", "--detach", *services, seconds=100)
    stack.wait_until(stack.is_well, 60)
    after = {name: one["State"]["StartedAt"] for name, one in stack.containers().items()}
    assert ["deployments"] == [name for name in services if started[name] != after[name]]

    stack.compose("down", "--volumes", "--timeout=10")
    assert {} == stack.containers()
    for kind in ("volume", "network"):
        assert "" == stack.engine.docker(kind, "ls", "--quiet", f"--filter=label=com.docker.compose.project={stack.name}")


def check_confinement(stack: "Stack") -> None:
    """What the engine was really told: rights, ports, and no secret where others can read it."""
    secrets = [value for path in stack.secrets.iterdir() for value in re.findall(r"[0-9a-f]{64}", path.read_text("utf-8"))]
    for name, one in stack.containers().items():
        host = one["HostConfig"]
        assert (True, ["ALL"], ["no-new-privileges:true"]) == (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]), name
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] > 0, name
        published = [entry["HostIp"] for entries in (host["PortBindings"] or {}).values() for entry in entries]
        assert set(published) <= {"127.0.0.1"}, name
        text = json.dumps(one)
        assert [] == [value for value in secrets if value in text], name
        if one["State"]["Running"]:
            listed = stack.engine.docker("top", one["Id"], "-ww", "-eo", "pid,args")
            assert [] == [value for value in secrets if value in listed], name
            status = Path(f"/proc/{one['State']['Pid']}/status").read_text("utf-8")
            assert "0" * 16 == dict(line.split(":\t") for line in status.splitlines())["CapEff"], name
            assert "0" != dict(line.split(":\t") for line in status.splitlines())["Uid"].split("\t")[0], name
