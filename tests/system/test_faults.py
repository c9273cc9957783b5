"""Faults on a laptop: the served version goes on serving, a sentence or an event says what happened, and nobody has to come."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from tests.system.conftest import User

SETTINGS = """
[models.m.rollout]
steps = [0.5]
step_requests = 20
step_seconds = 0.2
soak_requests = 40
soak_seconds = 0.5

[models.wine.rollout]
steps = [0.5]
step_requests = 20
step_seconds = 0.2
soak_requests = 40
soak_seconds = 0.5
"""
PIPELINE = """
import numpy as np
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from lastgood.pipelines import Data, Pipeline

class Wine(Pipeline):
    parameters = {"strength": 1.0}

    def load(self):
        x, y = load_wine(return_X_y=True)
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        test = np.arange(len(y)) % 3 == 0
        return Data(train=(x[~test], y[~test]), evaluation={"clean": (x[test], y[test]), "scaled": (x[test] * 1.02, y[test])})

    def build(self, parameters):
        return LogisticRegression(C=parameters["strength"], max_iter=500)
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def write_model(path: Path, scale: float, *, width: int = 3) -> Path:
    """Y = scale * x for "batch width" FP32."""
    shape = ["batch", width]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "a"], ["y"])],
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [helper.make_tensor("a", TensorProto.FLOAT, [], [scale])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


class Asking:
    """Asks the gateway for m all the time; every answer is kept: when, status, version, value."""

    def __init__(self, port: int) -> None:
        self.answers: list[tuple[int, str, float]] = []
        self._url = f"http://127.0.0.1:{port}/v2/models/m/infer"
        self._end = threading.Event()
        self._grew = threading.Condition()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}]}
        with httpx.Client(timeout=20) as client:
            while not self._end.is_set():
                try:
                    reply = client.post(self._url, json=body)
                    version = reply.headers.get("x-lastgood-version", "")
                    value = reply.json()["outputs"][0]["data"][0] if reply.is_success else 0.0
                    answer = (reply.status_code, version, value)
                except httpx.TransportError:
                    answer = (0, "", 0.0)
                with self._grew:
                    self.answers.append(answer)
                    self._grew.notify_all()
                self._end.wait(0.005)

    def wait(self, count: int, seconds: float = 60) -> None:
        """Wait for so many more answers."""
        wanted = len(self.answers) + count
        with self._grew:
            assert self._grew.wait_for(lambda: len(self.answers) >= wanted, seconds)

    @property
    def bad(self) -> list[tuple[int, str, float]]:
        """Answers that are not 200, or not what their version computes: version n multiplies by n."""
        return [own for own in self.answers if own[0] != 200 or own[2] != float(own[1])]

    @contextmanager
    def going_on(self) -> Iterator["Asking"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._end.set()
            self._thread.join(30)


@contextmanager
def serving(user: "User", *services: str) -> Iterator[Asking]:
    """Give somebody whose model m is at version 1, stable, and asked all the time; version 2 is registered."""
    (user.folder / "lastgood.toml").write_text(SETTINGS, "utf-8")
    (user.folder / "wine.py").write_text(PIPELINE, "utf-8")
    user.run("up", "gateway", *services)
    for number in (1, 2):
        user.run("import", str(write_model(user.folder / f"{number}.onnx", number)), "--model", "m", "-m", "made for a test")
    with Asking(user.ports["rest"]).going_on() as asking:
        user.run("deploy", "m@1", "--wait", "stable")
        asking.answers.clear()  # before the first deployment nothing was served
        yield asking
        asking.wait(50)
        assert "1" == asking.answers[-1][1]


def pid_of(user: "User", name: str) -> int:
    return int(json.loads((user.home / "stack" / f"{name}.pid").read_text())["pid"])


def replica_of(user: "User") -> psutil.Process:
    (pid,) = pids_of_replicas(user)
    return psutil.Process(pid)


def pids_of_replicas(user: "User") -> list[int]:
    return [pid for model in user.read("routes") for lane in model["lanes"] for pid in lane["replicas"]["pids"]]


def await_true(question: Callable[[], bool], seconds: float = 30) -> None:
    """Ask other processes, which announce nothing, until they say yes."""
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end
        time.sleep(0.05)


def kinds(user: "User", model: str = "m") -> list[str]:
    return [event["kind"] for event in user.read("log", model)]


def test_replicas_killed(user: "User") -> None:
    """Two in a row: no request is lost, each death is an event, the third one serves."""
    with serving(user) as asking:
        for _ in range(2):
            replica = replica_of(user)
            replica.send_signal(signal.SIGKILL)
            await_true(lambda gone=replica: not gone.is_running() and len(pids_of_replicas(user)) == 1)  # type: ignore[misc]
            asking.wait(20)
        assert [] == asking.bad
    assert 2 == kinds(user).count("replica-died")


def test_a_release_interrupted_with_kill(user: "User") -> None:
    """The command that watches is killed; the gateway finishes the rollout alone."""
    with serving(user) as asking:
        watching = user.start("deploy", "m@2", "--wait", "stable")
        assert watching.stderr is not None
        assert watching.stderr.readline()
        watching.send_signal(signal.SIGKILL)
        watching.communicate(timeout=20)
        await_true(lambda: kinds(user).count("rollout-stable") == 2)
        user.run("rollback", "m", "--keep", "-m", "back to where the test began")
        assert [] == asking.bad


def test_prefect_goes_away_during_a_release(user: "User") -> None:
    """The release goes on without its pages and says so; version 1 of the other model serves all the while."""
    with serving(user, "prefect") as asking:
        release = user.start("release", "wine", "--traffic", "evaluation", "--wait", "stable")
        assert release.stderr is not None
        assert "train" in release.stderr.readline()
        os.kill(pid_of(user, "prefect"), signal.SIGKILL)
        out, err = release.communicate(timeout=120)
        assert 0 == release.returncode, err
        assert "wine@1 is live; its rollout is stable" in out
        assert "Prefect's server went away meanwhile" in err
        assert "Traceback" not in err
        assert [] == asking.bad


def test_a_port_is_taken(user: "User") -> None:
    """Whoever holds it is named, nothing else is touched, and when it is free the same command works."""
    with serving(user) as asking:
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", user.ports["prefect"]))
            holder.listen()
            refused = user.run("up", "prefect", code=7)
            assert f"needs port {user.ports['prefect']}" in refused.stderr
        user.run("up", "prefect")
        assert [] == asking.bad


def test_a_second_gateway_of_the_same_project(user: "User") -> None:
    """It is refused before it touches anything."""
    with serving(user) as asking:
        home = {"LASTGOOD_HOME": str(user.home)}
        second = subprocess.run(
            [sys.executable, "-m", "lastgood.serving.gateway"],
            cwd=user.folder,
            env={**user.environment, **home},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert 6 == second.returncode, second.stderr
        assert "Traceback" not in second.stderr
        assert [] == asking.bad


def test_the_catalogue_is_locked_while_a_version_must_go(user: "User") -> None:
    """The bad version is out at once; the record follows when the lock is gone."""
    with serving(user) as asking:
        user.run("deploy", "m@2", "--wait", "stable")
        lock = sqlite3.connect(user.home / "registry" / "catalogue.db", isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        asked = user.start("rollback", "m", "-m", "wrong answers")
        await_true(lambda: asking.answers[-1][1] == "1")
        assert time.monotonic() - started < 5
        lock.rollback()
        lock.close()
        asked.communicate(timeout=60)
        await_true(lambda: "withdrawn" in kinds(user) and control(user)["unrecorded"] == 0)
        assert [] == asking.bad


def control(user: "User") -> Any:
    return httpx.get(f"http://127.0.0.1:{user.ports['control']}/healthz", timeout=10).json()


def test_a_stored_byte_of_the_candidate_has_changed(user: "User") -> None:
    """It is refused as not what was registered, exit code 5, and gets no request."""
    with serving(user) as asking:
        model = next(file for file in user.read("show", "m@2")["content"]["files"] if file["path"] == "model.onnx")
        (stored,) = (user.home / "registry" / "files").rglob(f"{model['sha256'][2:]}*")
        stored.chmod(0o644)
        data = bytearray(stored.read_bytes())
        data[-1] ^= 1
        stored.write_bytes(bytes(data))
        assert "model.onnx" in user.run("deploy", "m@2", code=5).stderr
        assert [] == asking.bad
        assert {"1"} == {own[1] for own in asking.answers}


def test_a_candidate_that_cannot_start(user: "User") -> None:
    """No file can be opened any more: the candidate is out without a request, not tombstoned, and welcome again later."""
    with serving(user) as asking:
        before = len(asking.answers)
        gateway = psutil.Process(pid_of(user, "gateway"))
        soft, hard = gateway.rlimit(psutil.RLIMIT_NOFILE)
        gateway.rlimit(psutil.RLIMIT_NOFILE, (gateway.num_fds() + 2, hard))
        refused = user.run("deploy", "m@2", code=7)
        gateway.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
        assert "m@2" in refused.stderr
        assert len(asking.answers) > before
        assert {"1"} == {own[1] for own in asking.answers}
        assert [] == asking.bad
        user.run("deploy", "m@2")  # the same bytes, once the machine is well
        user.run("rollback", "m", "--keep", "-m", "back to where the test began")


@pytest.fixture
def small_disk(user: "User") -> Iterator[Path]:
    """A file system of 64 MB for everything lastgood writes."""
    user.home.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(user.home)], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as exc:
        pytest.skip(f"a file system to fill needs the right to mount one: {getattr(exc, 'stderr', exc)}")
    try:
        yield user.home
    finally:
        user.run("down")
        subprocess.run(["umount", str(user.home)], check=True)


def test_the_disk_is_full_while_a_version_must_go(user: "User", small_disk: Path) -> None:
    """Registering says there is no room; taking out works all the same and is recorded when there is room again."""
    with serving(user) as asking:
        user.run("deploy", "m@2", "--wait", "stable")
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(64 << 20))
        refused = user.run("import", str(write_model(user.folder / "3.onnx", 3)), "--model", "m", code=7)
        assert "No space left" in refused.stderr
        asked = user.start("rollback", "m", "-m", "wrong answers")
        await_true(lambda: asking.answers[-1][1] == "1")
        filler.unlink()
        asked.communicate(timeout=60)
        await_true(lambda: "withdrawn" in kinds(user) and control(user)["unrecorded"] == 0)
        assert [] == asking.bad
        user.run("import", str(user.folder / "3.onnx"), "--model", "m", "-m", "there is room again")


def test_a_bad_version_while_prometheus_and_alertmanager_are_away(user: "User") -> None:
    """The judge in the gateway needs neither: a candidate that answers NaN is out, exit code 8."""
    with serving(user) as asking:
        user.run("import", str(write_model(user.folder / "nan.onnx", float("nan"))), "--model", "m", "-m", "bad on purpose")
        taken_back = user.run("deploy", "m@3", "--wait", "stable", code=8)
        assert "m@3" in taken_back.stderr
        assert {"3"} == {own[1] for own in asking.bad}
        assert len(asking.bad) < 40


@pytest.mark.system
def test_who_is_told_changes_while_alertmanager_runs(user: "User") -> None:
    """The same command again lets it read the new configuration; a mistake there stops nothing that runs."""
    if not (shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")):
        pytest.skip("Alertmanager is not installed (Debian: apt-get install prometheus-alertmanager)")
    user.run("up", "alertmanager")
    (user.folder / "lastgood.toml").write_text('[oncall.webhook]\nurl = "http://127.0.0.1:9/told"\n', "utf-8")
    user.run("up", "alertmanager")
    status = f"http://127.0.0.1:{user.ports['alertmanager']}/api/v2/status"
    await_true(lambda: "127.0.0.1:9/told" in httpx.get(status, timeout=10).json()["config"]["original"])
    (user.folder / "lastgood.toml").write_text('[oncall.slack]\nchannel = "#a"\napi_url_file = "secrets/absent"\n', "utf-8")
    assert "cannot be read" in user.run("up", "alertmanager", code=2).stderr
    assert "running" in user.run("status").stdout
