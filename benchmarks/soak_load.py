"""Clients of every kind, side by side, until they are told to stop: each answer is compared, whatever asked for it."""

import asyncio
import itertools
import json
import socket
import struct
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import numpy as np
from place import MODEL
from soak_model import CLASSES, FEATURES, Array, draw_rows, find_label, is_right

from lastgood.serving.gateway.grpc.messages import SERVICE, find_message

LARGE_ROWS: Final = 20_000
PIPELINED: Final = 16
PATIENCE_SECONDS: Final = 20.0
LENGTH: Final = "inference-header-content-length"
INFER: Final = f"/v2/models/{MODEL}/infer"
# Each is refused with 400, whatever else is going on.
WRONG: Final = (
    b"{",
    b'{"inputs": []}',
    b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 8], "data": [1, 2]}]}',
    b'{"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 8], "data": [1, 2, 3, 4, 5, 6, 7, 8]}]}',
    b'{"inputs": [{"name": "z", "datatype": "FP32", "shape": [1, 8], "data": [1, 2, 3, 4, 5, 6, 7, 8]}]}',
)


@dataclass
class Mixed:
    """Who is asked, how often, and what came of it, by the kind of client."""

    port: int
    port_grpc: int
    rate: float  # 1: some 400 requests a second
    asked: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)  # of what was bad
    versions: Counter[int] = field(default_factory=Counter)
    labels: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=5_000))  # of requests that were answered
    source: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def check(self, kind: str, x: Array, y: Array, version: str) -> None:
        """Compare an answer with what its version must give."""
        number = int(version)
        self.versions[number] += 1
        if not is_right(x, y, number):
            self.note_bad(kind, f"{y[:CLASSES].tolist()} as version {version}'s answer to {x[0].tolist()}")

    def note_bad(self, kind: str, what: str) -> None:
        """Count something that must not be."""
        self.bad[kind] += 1
        if len(self.examples) < 10:
            self.examples.append(f"{kind}: {what[:300]}")

    async def pause(self, seconds: float) -> bool:
        """Wait; say whether to go on."""
        try:
            await asyncio.wait_for(self.stop.wait(), seconds / self.rate)
        except TimeoutError:
            return True
        return False


@dataclass
class Wire:
    """One connection over which requests go as bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, port: int) -> "Wire":
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def read(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: status, headers, body."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))


def frame(path: str, body: bytes, extra: str = "") -> bytes:
    """Give a POST request."""
    return f"POST {path} HTTP/1.1\r\nhost: soak\r\n{extra}content-length: {len(body)}\r\n\r\n".encode() + body


def write_json(x: Array, name: str) -> bytes:
    """Give an inference request whose numbers are text."""
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
    return frame(INFER, json.dumps({"id": name, "inputs": [tensor]}).encode())


def write_binary(x: Array, name: str) -> bytes:
    """Give an inference request whose numbers, and those of its answer, are bytes behind the JSON."""
    raw = x.tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"id": name, "inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return frame(INFER, head + raw, f"{LENGTH}: {len(head)}\r\n")


def read_scores(headers: dict[str, str], body: bytes) -> tuple[Array, str]:
    """Give the scores of an answer, and the version it names."""
    if LENGTH not in headers:
        answer = json.loads(body)
        return np.array(answer["outputs"][0]["data"], np.float32), str(answer["model_version"])
    size = int(headers[LENGTH])
    return np.frombuffer(body[size:], "<f4"), str(json.loads(body[:size])["model_version"])


async def ask(mixed: Mixed, kind: str, write: Callable[[Array, str], bytes], *, rows: int, together: int, pause: float) -> None:
    """Ask over one connection, so many requests at a time, and label the answers to single rows."""
    wire = await Wire.open(mixed.port)
    while await mixed.pause(pause):
        asked = [(draw_rows(mixed.source, rows), f"{kind}-{next(mixed.numbers)}") for _ in range(together)]
        mixed.asked[kind] += together
        wire.writer.write(b"".join(write(x, name) for x, name in asked))
        for x, name in asked:
            status, headers, body = await wire.read()
            if status != 200:
                mixed.note_bad(kind, f"{status}: {body.decode(errors='replace')}")
                continue
            mixed.check(kind, x, *read_scores(headers, body))
            if rows == 1:
                mixed.labels.append((name, find_label(x[0])))
    wire.writer.close()


async def ask_grpc(mixed: Mixed, pause: float) -> None:
    """Ask over gRPC; of some calls the client loses interest."""
    request_of, response_of = find_message("ModelInferRequest"), find_message("ModelInferResponse")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mixed.port_grpc}") as channel:
        infer = channel.unary_unary(
            f"/{SERVICE}/ModelInfer", request_serializer=request_of.SerializeToString, response_deserializer=response_of.FromString
        )
        while await mixed.pause(pause):
            x, number = draw_rows(mixed.source, 1), next(mixed.numbers)
            request = request_of(model_name=MODEL, id=f"grpc-{number}", raw_input_contents=[x.tobytes()])
            request.inputs.add(name="x", datatype="FP32", shape=[1, FEATURES])
            mixed.asked["grpc"] += 1
            call = infer(request, timeout=PATIENCE_SECONDS)
            if number % 20 == 0:
                call.cancel()
                continue
            try:
                answer = await call
            except grpc.aio.AioRpcError as exc:
                mixed.note_bad("grpc", f"{exc.code()}: {exc.details()}")
                continue
            mixed.check("grpc", x, np.frombuffer(answer.raw_output_contents[0], "<f4"), answer.model_version)
            mixed.labels.append((request.id, find_label(x[0])))


async def ask_wrongly(mixed: Mixed, pause: float) -> None:
    """Send what is refused with 400, and ask for a model that is not there."""
    wire = await Wire.open(mixed.port)
    for number in itertools.count():
        if not await mixed.pause(pause):
            break
        body = WRONG[number % len(WRONG)]
        path, expected = (INFER, 400) if number % 7 else (f"/v2/models/none{number}/infer", 404)
        mixed.asked["wrong"] += 1
        wire.writer.write(frame(path, body))
        status, _, said = await wire.read()
        if status != expected:
            mixed.note_bad("wrong", f"{status} instead of {expected}: {said.decode(errors='replace')}")
    wire.writer.close()


async def leave(mixed: Mixed, pause: float) -> None:
    """Connect, send a request or a part of one, and reset the connection without reading."""
    linger = struct.pack("ii", 1, 0)
    while await mixed.pause(pause):
        wire = await Wire.open(mixed.port)
        number = next(mixed.numbers)
        data = write_json(draw_rows(mixed.source, 1), f"left-{number}")
        mixed.asked["left"] += 1
        wire.writer.write(data[: len(data) // 2] if number % 2 else data)
        await wire.writer.drain()
        wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        wire.writer.transport.abort()


async def label(mixed: Mixed, pause: float) -> None:
    """Tell what the answers should have been, those of the last moments together, and one of a request that never was."""
    wire = await Wire.open(mixed.port)
    while await mixed.pause(pause):
        told = [mixed.labels.popleft() for _ in range(len(mixed.labels))]
        if not told:
            continue
        told.append((f"never-{next(mixed.numbers)}", 0))
        mixed.asked["labels"] += len(told)
        body = json.dumps({"labels": [{"id": name, "label": own} for name, own in told]}).encode()
        wire.writer.write(frame(f"/v2/models/{MODEL}/feedback", body))
        status, _, said = await wire.read()
        if status >= 300:
            mixed.note_bad("labels", f"{status}: {said.decode(errors='replace')}")
    wire.writer.close()


def list_clients(mixed: Mixed) -> list[Awaitable[None]]:
    """Give every client, not yet begun."""
    return [
        *(ask(mixed, "json", write_json, rows=1, together=1, pause=0.04) for _ in range(4)),
        *(ask(mixed, "binary", write_binary, rows=1, together=1, pause=0.04) for _ in range(4)),
        *(ask_grpc(mixed, 0.04) for _ in range(4)),
        ask(mixed, "pipelined", write_json, rows=1, together=PIPELINED, pause=0.25),
        ask(mixed, "large json", write_json, rows=LARGE_ROWS // 4, together=1, pause=4.0),
        ask(mixed, "large binary", write_binary, rows=LARGE_ROWS, together=1, pause=2.0),
        ask_wrongly(mixed, 0.1),
        leave(mixed, 0.2),
        label(mixed, 0.5),
    ]
