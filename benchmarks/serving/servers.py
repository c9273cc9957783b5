"""Our gateway and the peers as running servers that are asked alike."""

import contextlib
import http.client
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from formats import PROTOCOL, Body, Format, write_tensor
from models import BUILDERS, Model
from peer_servers import PEERS

from lastgood.ports import free_ports
from lastgood.runtime import open_session
from lastgood.serving.client import Control, Predictor
from lastgood.tensors import TensorSpec

sys.path.insert(0, str(Path(__file__).parents[1]))  # the other benchmarks are scripts, too
from place import GATEWAY, MODEL, NEVER, Built, open_place

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "src"
_TAG = "LASTGOOD_BENCH_SERVER"  # in the environment of everything a peer starts
_START_SECONDS = 120.0


class NotServingError(Exception):
    """A server did not start, or answers otherwise than ONNX Runtime; the message says what."""


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    name: str
    port: int
    path: str
    format: Format
    find_family: Callable[[], list[psutil.Process]]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def bodies(self, model: Model) -> list[Body]:
        """Give the requests."""
        return [self.format.write(row[None]) for row in model.rows()]

    def ask(self, body: Body) -> Any:
        """Send one request; give the numbers of its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", self.path, body.data, dict(body.headers))
            response = connection.getresponse()
            answer = Body(dict(response.getheaders()), response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise NotServingError(f"{self.name} answers {response.status}: {answer.data[:300].decode('utf-8', 'replace')}")
        return np.array(self.format.read(answer), dtype=np.float32).ravel()

    def check(self, model: Model) -> None:
        """
        Compare every request's answer, asked for at the same time, with ONNX Runtime's.

        Raises:
            NotServingError: One is another.
        """
        session = open_session(model.data)
        bodies = self.bodies(model)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(self.ask, bodies * max(1, 64 // len(bodies))))
        wanted = [session.run(None, {"x": row[None].astype(np.float32)})[0].ravel() for row in model.rows()]
        for index, answer in enumerate(answers):
            expected = wanted[index % len(wanted)]
            if answer.shape != expected.shape or not np.allclose(answer, expected, atol=1e-4):
                raise NotServingError(f"{self.name} answers {answer[:4]} where ONNX Runtime gives {expected[:4]}")


@contextmanager
def open_ours(model: Model, *, command: Sequence[str] = GATEWAY) -> Iterator[tuple[Server, Callable[[], str]]]:
    """
    Start the gateway with two versions of the model, each of which gets half of the requests under the judge's eyes.

    Gives the server, and what tells the rollout's state: it must be a canary to the end.
    """

    def build(number: int) -> Built:
        # A version is known by its bytes, so the second differs in its note.
        data = model.data if number == 1 else BUILDERS[model.name](f"version {number}").data
        inputs, outputs = (TensorSpec("x", "FP32", (-1, *model.shape)),), (TensorSpec("y", "FP32", (-1, model.classes)),)
        return Built({"model.onnx": data}, inputs, outputs)

    with open_place(2, build=build, command=command) as place, place.control() as control, Predictor(place.settings) as predictor:
        place.deploy(control, 1, strategy="direct", soak_requests=1)
        row = [write_tensor(model.rows()[:1])]
        for state in control.watch(MODEL, seconds=60):
            if state["rollout"]["state"] == "stable":
                break
            if state["rollout"]["state"] == "soaking":
                predictor.infer(MODEL, row)
        place.deploy(control, 2, steps=[0.5], step_requests=NEVER)
        _wait_for(control, "canary")

        def find_family() -> list[psutil.Process]:
            root = psutil.Process(place.pid())
            return [root, *root.children(recursive=True)]

        def read_state() -> str:
            state = next(iter(control.watch(MODEL, seconds=5)))["rollout"]["state"]
            return str(state)

        yield Server("lastgood", place.settings.port_rest, f"/v2/models/{MODEL}/infer", PROTOCOL, find_family), read_state


def _wait_for(control: Control, wanted: str) -> None:
    for state in control.watch(MODEL, seconds=60):
        if state["rollout"]["state"] == wanted:
            return
    raise NotServingError(f"lastgood's rollout is {state['rollout']['state']}, not {wanted}")


@contextmanager
def open_peer(name: str, python: Path, model: Model) -> Iterator[Server]:
    """
    Start a peer in its own environment and wait until it answers; everything it started is ended afterwards.

    Raises:
        NotServingError: It ended or did not answer in time; the message has its last lines.
    """
    peer = PEERS[name]
    tag = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="lastgood-peer-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(model.data)
        log = Path(folder) / "log"
        ports = free_ports(3)
        own = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}  # our strictness is not theirs
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(python), str(HERE / "peers" / peer.script), str(file), *map(str, ports), folder],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env={**own, "PYTHONPATH": str(SOURCES), "PATH": f"{python.parent}:{os.environ['PATH']}", _TAG: tag},
                start_new_session=True,
            )
        server = Server(name, ports[0], peer.path, peer.format, lambda: find_tagged(process.pid, tag))
        try:
            _wait_until_it_answers(server, process, log, server.bodies(model)[0])
            yield server
        finally:
            _end(process, server.find_family())


def _wait_until_it_answers(server: Server, process: subprocess.Popen[bytes], log: Path, body: Body) -> None:
    deadline, problem = time.monotonic() + _START_SECONDS, "nothing"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NotServingError(f"{server.name} ended with {process.returncode}: {_tail(log)}")
        try:
            server.ask(body)
        except (OSError, http.client.HTTPException, NotServingError) as exc:
            problem = str(exc)
            time.sleep(0.2)
        else:
            return
    raise NotServingError(f"{server.name} did not answer within {_START_SECONDS:g} s ({problem}): {_tail(log)}")


def find_tagged(pid: int, tag: str) -> list[psutil.Process]:
    """Give a process, what descends from it, and what has the tag in its environment: daemons leave the family."""
    found: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        found = {process.pid: process for process in (root, *root.children(recursive=True))}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(_TAG) == tag:
                found[process.pid] = process
    return list(found.values())


def _end(process: subprocess.Popen[bytes], family: list[psutil.Process]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()  # psutil compares the start time first: never a stranger with the same id
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    psutil.wait_procs(family, timeout=5)


def _tail(log: Path) -> str:
    lines = [line.strip() for line in log.read_bytes().decode("utf-8", "replace").splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-400:]
