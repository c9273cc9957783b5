"""Tiny versions, a gateway around them, and a client that speaks over real sockets."""

import asyncio
import hashlib
import io
import json
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import uvloop
from onnx import TensorProto, helper

from lastgood.ports import free_ports
from lastgood.registry.content import Content, FileEntry, Golden, Record
from lastgood.registry.registry import Registry
from lastgood.replicas import ReplicaSettings
from lastgood.serving.backends.docker_backend import DockerBackend
from lastgood.serving.backends.process import ProcessBackend
from lastgood.serving.backends.replica import Backend
from lastgood.serving.gateway.limits import HttpLimits, PoolLimits
from lastgood.serving.gateway.plane import DataPlane
from lastgood.serving.gateway.pool.pool import ReplicaPool
from lastgood.serving.gateway.program import Gateway as WholeGateway
from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.rollouts.conductor import Conductor
from lastgood.serving.gateway.route import Coin, Lane, Role, Route, Tally
from lastgood.serving.gateway.telemetry.telemetry import Telemetry, open_telemetry
from lastgood.serving.rollout.table import Pin
from lastgood.settings import DockerSettings, Settings
from lastgood.telemetry import TelemetrySettings
from lastgood.tensors import TensorSpec

ONNX_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


@dataclass(frozen=True)
class Version:
    """A content and the folder with its files."""

    content: Content
    folder: Path


def build_model(nodes: list[Any], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], constants: Sequence[Any] = ()) -> bytes:
    """Give the bytes of a graph."""

    def declare(spec: TensorSpec) -> Any:
        sizes = [f"{spec.name}{axis}" if size < 0 else size for axis, size in enumerate(spec.shape)]
        return helper.make_tensor_value_info(spec.name, ONNX_TYPES[spec.datatype], sizes)

    graph = helper.make_graph(nodes, "test", list(map(declare, inputs)), list(map(declare, outputs)), list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


class Versions:
    """Builds versions under a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def write(
        self,
        model: bytes,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        batching: Literal[0] | None = 0,
        golden: dict[str, np.ndarray[Any, Any]] | None = None,
        extra: dict[str, bytes] | None = None,
    ) -> Version:
        """Write a version's files and give it."""
        self._count += 1
        folder = self._folder / f"version-{self._count}"
        folder.mkdir(parents=True)
        files = {"model.onnx": model, **(extra or {})}
        if golden is not None:
            stream = io.BytesIO()
            np.savez(stream, **golden)  # type: ignore[arg-type]
            files["golden.npz"] = stream.getvalue()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        entries = tuple(FileEntry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items()))
        proof = None if golden is None else Golden("golden.npz", 1e-5, 1e-6)
        return Version(Content(entries, tuple(inputs), tuple(outputs), batching, proof), folder)

    def linear(self, scale: float = 2.0, offset: float = 1.0, golden: dict[str, np.ndarray[Any, Any]] | None = None) -> Version:
        """Y = scale * x + offset for "batch 3" FP32."""
        nodes = [helper.make_node("Mul", ["x", "a"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
        constants = [helper.make_tensor("a", TensorProto.FLOAT, [], [scale]), helper.make_tensor("b", TensorProto.FLOAT, [], [offset])]
        inputs, outputs = [TensorSpec("x", "FP32", (-1, 3))], [TensorSpec("y", "FP32", (-1, 3))]
        return self.write(build_model(nodes, inputs, outputs, constants), inputs, outputs, 0, golden)

    def identity(self, datatype: str, shape: tuple[int, ...] = (-1, 3), batching: Literal[0] | None = 0) -> Version:
        """Y = x."""
        inputs, outputs = [TensorSpec("x", datatype, shape)], [TensorSpec("y", datatype, shape)]
        return self.write(build_model([helper.make_node("Identity", ["x"], ["y"])], inputs, outputs), inputs, outputs, batching)

    def all_datatypes(self, names: Sequence[str]) -> Version:
        """out_NAME = in_NAME for every datatype."""
        inputs = [TensorSpec(f"in_{name}", name, (-1, 3)) for name in names]
        outputs = [TensorSpec(f"out_{name}", name, (-1, 3)) for name in names]
        nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in names]
        return self.write(build_model(nodes, inputs, outputs), inputs, outputs)

    def gather(self) -> Version:
        """Y = (10, 20, 30)[x], which fails on an index of 3 or more."""
        inputs, outputs = [TensorSpec("x", "INT64", (-1, 1))], [TensorSpec("y", "FP32", (-1, 1))]
        constants = [helper.make_tensor("table", TensorProto.FLOAT, [3], [10.0, 20.0, 30.0])]
        return self.write(build_model([helper.make_node("Gather", ["table", "x"], ["y"])], inputs, outputs, constants), inputs, outputs)

    def logarithm(self) -> Version:
        """Y = log(x), not finite below zero."""
        inputs, outputs = [TensorSpec("x", "FP32", (-1, 1))], [TensorSpec("y", "FP32", (-1, 1))]
        return self.write(build_model([helper.make_node("Log", ["x"], ["y"])], inputs, outputs), inputs, outputs)


@dataclass
class Reply:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def data(self) -> list[Any]:
        """Elements of the first output; fails with the body of any other answer than 200."""
        assert self.status == 200, self.body
        data: list[Any] = self.json["outputs"][0]["data"]
        return data


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port = port
        self.reader = reader
        self.writer = writer

    async def read(self) -> Reply:
        """Read one answer; fails if it does not come within 20 s."""
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            return Reply(int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers.get("content-length", "0"))))

    async def read_to_end(self) -> bytes:
        """Read until the server closes."""
        async with asyncio.timeout(20):
            return await self.reader.read()

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.writer.write(data)

    async def get(self, path: str, headers: str = "") -> Reply:
        """GET."""
        self.send(f"GET {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n".encode())
        return await self.read()

    def send_post(self, path: str, body: bytes, headers: str = "") -> None:
        """Send a POST without waiting for the answer."""
        self.send(f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body)

    async def post(self, path: str, body: bytes, headers: str = "") -> Reply:
        """POST."""
        self.send_post(path, body, headers)
        return await self.read()

    async def infer(self, data: Any, shape: list[int] | None = None, datatype: str = "FP32", path: str = "m", headers: str = "") -> Reply:
        """Ask model ``path`` for one tensor named x."""
        wanted = [1, len(data)] if shape is None else shape
        body = {"inputs": [{"name": "x", "shape": wanted, "datatype": datatype, "data": data}]}
        return await self.post(f"/v2/models/{path}/infer", json.dumps(body).encode(), headers)


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Client]:
    """Open a connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(port, reader, writer)
    finally:
        writer.close()


def make_lane(pool: ReplicaPool, role: Role = "live", slow: float = float("inf"), fallback: Lane | None = None) -> Lane:
    """Make a lane with a tally of its own."""
    return Lane(pool, role, Tally(), slow, None, fallback)


@dataclass(frozen=True)
class Place:
    """Where a test's replicas run, and how a program of the test's own gets there."""

    folder: Path
    docker: DockerSettings | None = None

    def make(self) -> Backend:
        """Make the backend; it is the caller's to open and close."""
        if self.docker is None:
            return ProcessBackend()
        return DockerBackend(self.docker, self.folder / "replicas", mounts={"/program": str(self.programs)})

    @property
    def programs(self) -> Path:
        """The folder for programs, which is mounted."""
        folder = self.folder / "program"
        folder.mkdir(exist_ok=True)
        return folder

    def command(self, path: Path) -> tuple[str, ...]:
        """Say how a program in that folder is run."""
        return (sys.executable, "-P", str(path)) if self.docker is None else ("python", "-P", f"/program/{path.name}")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a gateway with this backend."""
        return {} if self.docker is None else {"backend": "docker", "docker": self.docker}


@dataclass
class Gateway:
    """A data plane with pools, all of them stopped at the end."""

    reception: Reception
    plane: DataPlane
    backend: Backend
    pools: list[ReplicaPool] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    telemetry: Telemetry | None = None

    async def add(
        self,
        version: Version,
        number: int = 1,
        *,
        program: Sequence[str] | None = None,
        limits: PoolLimits | None = None,
        replicas: int = 1,
    ) -> ReplicaPool:
        """Start a version of model m."""
        pool = ReplicaPool(
            "m",
            number,
            version.content.digest,
            version.content,
            version.folder,
            backend=self.backend,
            program=program,
            limits=limits,
            serving=ReplicaSettings(replicas=replicas),
            on_death=lambda _, why: self.deaths.append(why),
        )
        self.pools.append(pool)
        await pool.start()
        self.reception.add_pool(pool)
        return pool

    def route(self, main: Lane, candidate: Lane | None = None, share: float = 0.0) -> None:
        """Put a route in place."""
        generation = self.reception.routes["m"].generation + 1 if "m" in self.reception.routes else 1
        self.reception.set_route(Route("m", generation, main, candidate, int(share * 2**64), Coin(generation)))

    async def serve(self, version: Version, *, program: Sequence[str] | None = None, limits: PoolLimits | None = None) -> Lane:
        """Start a version and send it everything."""
        lane = make_lane(await self.add(version, program=program, limits=limits))
        self.route(lane)
        return lane


@asynccontextmanager
async def open_gateway(
    place: Place, limits: HttpLimits | None = None, token: str | None = None, telemetry: TelemetrySettings | None = None
) -> AsyncIterator[Gateway]:
    """Listen on a free port of loopback."""
    reception = Reception()
    told = open_telemetry(telemetry or TelemetrySettings(), place.folder)
    plane = DataPlane(reception, "127.0.0.1", 0, limits=limits, token=token, telemetry=told)
    gateway = Gateway(reception, plane, place.make(), telemetry=told)
    await gateway.backend.open(())
    await gateway.plane.start()
    try:
        yield gateway
    finally:
        await gateway.plane.drain(grace_seconds=1)
        if told is not None:
            await asyncio.to_thread(told.close)
        await asyncio.gather(*(pool.stop(drain=False) for pool in gateway.pools))
        await gateway.backend.close()


async def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something nobody announces; fails when it does not come."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # the state of a process has no event
            await asyncio.sleep(0.01)


BACKENDS = ["process", pytest.param("docker", marks=[pytest.mark.slow, pytest.mark.system])]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked `backends` on both."""
    if "place" in metafunc.fixturenames and metafunc.definition.get_closest_marker("backends"):
        metafunc.parametrize("place", BACKENDS, indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Give the place where replicas run: child processes, or containers of a real engine with the image of this tree."""
    if getattr(request, "param", "process") == "process":
        return Place(tmp_path)
    engine, image = request.getfixturevalue("engine"), request.getfixturevalue("serve_image")
    return Place(tmp_path, DockerSettings(image=image, socket=engine.url))


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    """Build versions below the test's folder."""
    return Versions(tmp_path)


@pytest.fixture
def settings(place: Place, tmp_path: Path) -> Settings:
    rest, control = free_ports(2)
    return Settings(project=tmp_path, home=tmp_path / "home", port_rest=rest, port_grpc=0, port_control=control, **place.settings)


@pytest.fixture
def pins(settings: Settings, versions: Versions) -> dict[int, Pin]:
    """Four versions of model m that multiply by their number; the fourth has golden answers of another."""
    found = {}
    with Registry.open(settings, writer="cli") as registry:
        for number in range(1, 5):
            row = np.ones((1, 3), np.float32)
            golden = {"in/x": row, "out/y": row * number + (0 if number < 4 else 1)}
            version = versions.linear(float(number), 0.0, golden)
            files = {entry.path: version.folder / entry.path for entry in version.content.files}
            registered = registry.register("m", version.content, files, Record("ada", f"times {number}"), actor="ada")
            found[number] = Pin(registered.number, registered.digest)
    return found


@pytest.fixture
def run() -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Run a scenario on the loop that serves in production."""

    def go(scenario: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(scenario())  # type: ignore[arg-type]

    return go


@pytest.fixture
def make_program(place: Place) -> Callable[[str], tuple[str, ...]]:
    """Write a replica program whose model does something else in ``run``."""

    def write(body: str) -> tuple[str, ...]:
        path = place.programs / "replica_program.py"
        source = """
            import os, signal, sys, time
            import numpy as np
            from lastgood.serving.replica.model import Model
            from lastgood.serving.replica.program import main

            class Other(Model):
                def run(self, feeds):
            {body}

            if __name__ == "__main__":
                sys.exit(main(Other.open))
        """
        path.write_text(textwrap.dedent(source).replace("{body}", textwrap.indent(textwrap.dedent(body).strip(), " " * 8)), "utf-8")
        return place.command(path)

    return write


@asynccontextmanager
async def run_gateway(settings: Settings, program: Sequence[str] | None = None) -> AsyncIterator[WholeGateway]:
    """Run a gateway with both its ports and its observer in this process; everything has ended afterwards."""
    gateway = WholeGateway(settings, program=program)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


@asynccontextmanager
async def run_conductor(settings: Settings, program: Sequence[str] | None = None) -> AsyncIterator[Conductor]:
    """Run a gateway and give what drives it."""
    async with run_gateway(settings, program) as gateway:
        yield gateway.conductor


class Tools:
    """What tests call; modules under tests cannot import each other."""

    connect = staticmethod(connect)
    make_lane = staticmethod(make_lane)
    wait_until = staticmethod(wait_until)
    build_model = staticmethod(build_model)
    run_gateway = staticmethod(run_gateway)
    run_conductor = staticmethod(run_conductor)

    def __init__(self, place: Place) -> None:
        self.place = place

    def open_gateway(
        self, limits: HttpLimits | None = None, token: str | None = None, telemetry: TelemetrySettings | None = None
    ) -> AbstractAsyncContextManager[Gateway]:
        """Listen, with replicas and the access log in the test's place."""
        return open_gateway(self.place, limits, token, telemetry)


@pytest.fixture
def tools(place: Place) -> Tools:
    """Give the functions above."""
    return Tools(place)
