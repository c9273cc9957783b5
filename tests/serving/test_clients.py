"""Clients that were written for other servers ask this one, unchanged."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lastgood.serving.gateway.grpc.messages import MESSAGES, find_message
from lastgood.serving.gateway.grpc.server import GrpcServer

if TYPE_CHECKING:
    from tests.serving.conftest import Tools, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
PYTHON = Path(__file__).parents[2] / ".venv/peer-clients/bin/python"
ROWS = [[1.0, 3.0, 5.0], [7.0, 9.0, 11.0]]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.is_file(), reason="the clients are not installed: make .venv/.ready-ci"),
]


async def ask(name: str, port: int) -> dict[str, Any]:
    """Run a client's script in the clients' environment, and give what it found."""
    script = Path(__file__).parent / "clients" / f"{name}.py"
    process = await asyncio.create_subprocess_exec(str(PYTHON), str(script), str(port), stdout=-1, stderr=-1)
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert 0 == process.returncode, err.decode()
    found: dict[str, Any] = json.loads(out)
    return found


def test_tritonclient_works_unchanged(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Health, metadata, versions, JSON and binary in and out, errors; with threads and with asyncio."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear())
            found = await ask("triton_http", gateway.plane.port)
        assert [True] * 4 == [found[name] for name in ("live", "ready", "model_ready", "version_ready")]
        assert [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}] == found["model"]
        assert "binary_tensor_data" in found["server"]
        for binary_in in (True, False):
            for binary_out in (True, False):
                assert [ROWS, "7"] == found[f"{binary_in} {binary_out}"]
        assert [ROWS] * 3 == [found["default"], found["async"], found["aio"]]
        assert "inputs[0].name is 'z'" in found["error"]

    run(scenario)


def test_kserves_client_works_unchanged(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Health, JSON and binary in and out."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear())
            found = await ask("kserve_http", gateway.plane.port)
        assert [True] * 3 == [found[name] for name in ("live", "ready", "model_ready")]
        assert [[ROWS, "7"]] * 2 == [found[name][:2] for name in ("True", "False")]

    run(scenario)


def test_tritonclient_works_unchanged_over_grpc(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Health, metadata, versions, bytes in and out, errors; with threads, callbacks and asyncio. Its numbers of fields are ours."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear())
            server = GrpcServer(gateway.reception, port=0)
            await server.start()
            found = await ask("triton_grpc", server.port)
            await server.drain(1)
        assert [True] * 4 == [found[name] for name in ("live", "ready", "model_ready", "version_ready")]
        assert [{"name": "x", "datatype": "FP32", "shape": ["-1", "3"]}] == found["model"]
        assert "lastgood" == found["server"]["name"]
        assert [ROWS, "7"] == found["sync"]
        assert [ROWS, ROWS, [True, ROWS]] == [found["default"], found["async"], found["aio"]]
        status, sentence = found["error"]
        assert ("StatusCode.INVALID_ARGUMENT", True) == (status, "inputs[0].name is 'z'" in sentence)
        for name in MESSAGES:
            fields = find_message(name).DESCRIPTOR.fields
            ours = [[field.number, field.name, field.type, field.is_repeated] for field in fields]
            lacking = ["properties"] if name == "ModelMetadataResponse" else []  # which KServe has added to the protocol
            assert lacking == [field[1] for field in ours if field not in found["numbers"][name]], name

    run(scenario)


def test_kserves_client_works_unchanged_over_grpc(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Health, elements and bytes in and out."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear())
            server = GrpcServer(gateway.reception, port=0)
            await server.start()
            found = await ask("kserve_grpc", server.port)
            await server.drain(1)
        assert [True] * 3 == [found[name] for name in ("live", "ready", "model_ready")]
        assert [[ROWS, "7", "1"]] * 2 == [found[name] for name in ("True", "False")]

    run(scenario)
