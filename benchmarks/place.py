"""
A throwaway installation: versions whose answers tell them apart, a real gateway on free ports, and constant load.

Version k of the model ``scale`` answers ``y = k * x`` (float64), so that every answer says which version computed it.
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from lastgood.ports import free_ports
from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.serving.client import Control
from lastgood.settings import PROJECT_FILE, Settings, load_settings
from lastgood.stack.processes import Service, Stack
from lastgood.stack.services import answers, environment
from lastgood.tensors import TensorSpec

MODEL = "scale"
GATEWAY = (sys.executable, "-m", "lastgood.serving.gateway")
QUICK_POLICY: dict[str, Any] = {"steps": [0.5], "step_requests": 20, "step_seconds": 0.0, "soak_requests": 20, "soak_seconds": 0.0}
NEVER = 1_000_000_000  # requests that never come: the step lasts until somebody ends it


@dataclass
class Place:
    """An installation with its gateway."""

    settings: Settings
    digests: dict[int, str]
    command: Sequence[str] = GATEWAY
    stack: Stack = field(init=False)

    def __post_init__(self) -> None:
        """Prepare to start processes."""
        self.stack = Stack(self.settings.home)

    def start(self, command: Sequence[str] | None = None) -> None:
        """Start the gateway and wait until it answers."""
        url = f"{self.settings.control_url}/healthz"
        service = Service("gateway", command or self.command, self.settings.port_rest, url, answers(url), environment(self.settings))
        self.stack.start(service)

    def stop(self) -> None:
        """Stop the gateway."""
        self.stack.stop("gateway")

    def pid(self) -> int | None:
        """Give the gateway's process id while it runs."""
        process = self.stack.running("gateway")
        return None if process is None else process.pid

    def control(self) -> Control:
        """Give a client of the control plane."""
        return Control(self.settings)

    def deploy(self, control: Control, number: int, *, strategy: str = "canary", **policy: Any) -> dict[str, Any]:
        """Submit a rollout."""
        values = {**QUICK_POLICY, **policy}
        return control.deploy(f"{MODEL}@{number}", strategy=strategy, policy=values, actor="benchmark", why="a benchmark")


@dataclass(frozen=True)
class Built:
    """A version's files by path, and what goes in and out; ``drift`` names the file with its reference."""

    files: Mapping[str, bytes]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    drift: str | None = None


def build_scale_version(number: int) -> Built:
    """Give version k: ``y = k * x``."""
    return Built({"model.onnx": build_scale(float(number))}, (TensorSpec("x", "FP64", (-1,)),), (TensorSpec("y", "FP64", (-1,)),))


@contextmanager
def open_place(
    versions: int,
    *,
    command: Sequence[str] = GATEWAY,
    start: bool = True,
    build: Callable[[int], Built] = build_scale_version,
    predictions: Mapping[str, Any] | None = None,
    serving: Mapping[str, Any] | None = None,
    grpc: bool = False,
) -> Iterator[Place]:
    """
    Make an installation with that many versions of the model; everything is gone afterwards.

    Args:
        versions: How many.
        command: Of the gateway.
        start: Whether it is started.
        build: Gives a version by its number, from 1.
        predictions: The model's settings of that name.
        serving: The settings of that name.
        grpc: Whether there is a gRPC port.
    """
    folder = Path(tempfile.mkdtemp(prefix="lastgood-place-"))
    rest, control, prometheus, alertmanager, port_grpc = free_ports(5)
    fresh = {
        "project": folder,
        "home": folder / ".lastgood",
        "database": None,
        "files": None,
        "token_file": None,
        "host": "127.0.0.1",
        "port_rest": rest,
        "port_grpc": port_grpc if grpc else 0,
        "port_control": control,
        "port_prometheus": prometheus,
        "port_alertmanager": alertmanager,
    }
    policy = "".join(f"{name} = {value}\n" for name, value in QUICK_POLICY.items())
    observed, served = ("".join(f"{name} = {json.dumps(value)}\n" for name, value in (own or {}).items()) for own in (predictions, serving))
    tables = f"[models.{MODEL}.rollout]\n{policy}[models.{MODEL}.predictions]\n{observed}[serving]\n{served}"
    (folder / PROJECT_FILE).write_text(tables, "utf-8")
    settings = load_settings(folder).model_copy(update=fresh)
    place = Place(settings, register(settings, folder, versions, build), command)
    try:
        if start:
            place.start()
        yield place
    finally:
        place.stop()
        shutil.rmtree(folder, ignore_errors=True)


def register(settings: Settings, folder: Path, versions: int, build: Callable[[int], Built] = build_scale_version) -> dict[int, str]:
    """Register that many versions of the model; give their digests by number."""
    digests = {}
    with Registry.open(settings, writer="cli") as registry:
        for number in range(1, versions + 1):
            built = build(number)
            paths = {name: folder / f"{number}-{name}" for name in built.files}
            for name, path in paths.items():
                path.write_bytes(built.files[name])
            entries = tuple(FileEntry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in sorted(built.files.items()))
            content = Content(entries, built.inputs, built.outputs, 0, drift=built.drift)
            version = registry.register(MODEL, content, paths, Record("benchmark", f"version {number}"), actor="benchmark")
            digests[number] = version.digest
    return digests


def build_scale(factor: float) -> bytes:
    """Give the ONNX bytes of ``y = factor * x``, "batch" float64."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["n"])],
        [helper.make_tensor("k", TensorProto.DOUBLE, [], [factor])],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


@dataclass
class Load:
    """What constant load saw; every answer is compared with what the version that is named must give."""

    asked: int = 0
    failed: int = 0  # no answer, or another status than 200
    wrong: int = 0  # an answer no version gives to this input
    misattributed: int = 0  # another version's answer than the one named
    hung: int = 0  # no answer within the time
    by_version: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)  # seconds
    good: list[tuple[float, float]] = field(default_factory=list)  # loop times at which a good answer's request was sent, and it came

    def check(self, status: int, headers: Mapping[str, str], body: bytes, x: float, seconds: float) -> bool:
        """Compare one answer; say whether it is good."""
        self.latencies.append(seconds)
        self.statuses[str(status)] += 1
        if status != 200:
            self.failed += 1
            return False
        answer = json.loads(body)
        (y,) = answer["outputs"][0]["data"]
        factor = y / x
        named = answer["model_version"]
        self.by_version[named] += 1
        if factor != round(factor):
            self.wrong += 1
        elif str(round(factor)) != named or headers.get("x-lastgood-version") != named:
            self.misattributed += 1
        else:
            return True
        return False

    def summary(self) -> dict[str, Any]:
        """Give the counts as JSON values."""
        return {name: getattr(self, name) for name in ("asked", "failed", "wrong", "misattributed", "hung")}


@asynccontextmanager
async def constant_load(
    port: int, *, connections: int = 16, per_second: float = 2000.0, answer_seconds: float = 35.0
) -> AsyncIterator[Load]:
    """Ask from several connections, each one request at a time with an input nobody else sends, until left."""
    load, numbers, stop = Load(), itertools.count(1), asyncio.Event()
    tasks = [asyncio.create_task(_ask(port, load, numbers, stop, connections / per_second, answer_seconds)) for _ in range(connections)]
    try:
        yield load
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def _ask(port: int, load: Load, numbers: Iterator[int], stop: asyncio.Event, pause: float, answer_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = loop.time()
    while not stop.is_set():
        # Floats up to 2**53 times a small integer divide back exactly.
        x = float(next(numbers))
        load.asked += 1
        began = loop.time()
        try:
            async with asyncio.timeout(answer_seconds):
                status, headers, body = await exchange(reader, writer, {"inputs": [tensor(x)]})
        except TimeoutError:
            load.hung += 1
            return
        except (ConnectionError, asyncio.IncompleteReadError):
            load.failed += 1
            load.statuses["connection lost"] += 1
            writer.close()
            connection = await connect(port, stop)
            if connection is None:
                return
            reader, writer = connection
            continue
        ended = loop.time()
        if load.check(status, headers, body, x, ended - began):
            load.good.append((began, ended))
        due = max(due + pause, loop.time())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), max(0.0, due - loop.time()))
    writer.close()


async def connect(port: int, stop: asyncio.Event) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Connect as soon as somebody listens; None when it is time to stop first."""
    while not stop.is_set():
        with contextlib.suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.05)
    return None


def tensor(x: float) -> dict[str, Any]:
    """Give the input tensor of one number."""
    return {"name": "x", "datatype": "FP64", "shape": [1], "data": [x]}


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: Any) -> tuple[int, dict[str, str], bytes]:
    """Send one request on a connection and read its answer."""
    data = json.dumps(body).encode()
    writer.write(f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def until(control: Control, wanted: str, *, seconds: float = 60.0) -> dict[str, Any]:
    """Wait until the model's rollout is in a state; fails when it does not get there."""

    def watch() -> dict[str, Any]:
        for state in control.watch(MODEL, seconds=seconds):
            if state["rollout"] is not None and state["rollout"]["state"] == wanted:
                return state
        raise SystemExit(f"the rollout is {state['rollout']['state']}, not {wanted}, after {seconds} s")

    return await asyncio.to_thread(watch)


def write_quantiles(own: Mapping[str, float]) -> str:
    """Give what `lastgood.drill.score.find_quantiles` found as a cell of such a table."""
    return f"{own['p95']:,.0f} (median {own['median']:,.0f}, most {own['most']:,.0f})"


def print_figures(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Print a table: what, asked, measured."""
    print(title)
    for row in (("figure", "asked", "measured"), *rows):
        print(f"  {row[0]:<44} {row[1]:<16} {row[2]}")
