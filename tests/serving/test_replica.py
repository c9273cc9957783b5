"""A replica serves what was verified and proven, or says why not and ends."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper

from lastgood.serving.backends.process import PROGRAM, describe_status
from lastgood.serving.backends.replica import ReplicaFailedError
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.pool.pool import ReplicaPool
from lastgood.serving.replica.serve import find_invalid
from lastgood.tensors import TensorSpec

if TYPE_CHECKING:
    from tests.serving.conftest import Place, Tools, Version, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
GOLDEN = {"in/x": ROWS, "out/y": 2 * ROWS + 1}


def start_and_fail(run: Run, place: "Place", version: "Version", **options: Any) -> ReplicaFailedError:
    """Start a version that must not become ready; no process is left, and no container or socket."""
    errors: list[ReplicaFailedError] = []

    async def scenario() -> None:
        backend = place.make()
        await backend.open(())
        digest = options.pop("digest", version.content.digest)
        pool = ReplicaPool("m", 1, digest, version.content, version.folder, backend=backend, **options)
        with pytest.raises(ReplicaFailedError) as caught:
            await pool.start()
        assert not pool.ready
        await pool.stop()
        assert [] == [path for path in (place.folder / "replicas").glob("*") if path.is_dir()]
        await backend.close()
        errors.append(caught.value)

    before = set(psutil.Process().children())
    run(scenario)
    assert set(psutil.Process().children()) == before
    return errors[0]


@pytest.mark.backends
def test_a_version_whose_golden_answers_agree_gets_ready(run: Run, versions: "Versions", tools: "Tools") -> None:
    """The report says what was proven, and the first answer is right."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear(golden=GOLDEN))
            async with tools.connect(gateway.plane.port) as client:
                assert (await client.infer([1, 2, 3])).data == [3, 5, 7]

    run(scenario)


@pytest.mark.backends
def test_wrong_golden_answers_are_never_served(run: Run, place: "Place", versions: "Versions") -> None:
    """The sentence names output, place, both values and the tolerance."""
    error = start_and_fail(run, place, versions.linear(scale=2.5, golden=GOLDEN))
    assert error.reason == "serving.golden-mismatch"
    assert "'y' differs in 5 of 6 elements: at [0, 1] it is 3.5, recorded was 3.0 (rtol 1e-05" in str(error)


@pytest.mark.backends
@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_a_flipped_bit_is_never_served(run: Run, place: "Place", versions: "Versions", name: str) -> None:
    """The file is named, and nothing of it is loaded."""
    version = versions.linear(golden=GOLDEN)
    path = version.folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    error = start_and_fail(run, place, version)
    assert error.reason == "serving.file-changed"
    assert f"'{name}' has {len(data)} bytes and SHA-256" in str(error)


@pytest.mark.backends
def test_a_missing_file_and_a_wrong_digest_are_never_served(run: Run, place: "Place", versions: "Versions") -> None:
    """Content under another digest, or without its file, is refused by name."""
    version = versions.linear()
    assert "hashes to" in str(start_and_fail(run, place, version, digest="sha256:" + "0" * 64))
    (version.folder / "model.onnx").unlink()
    assert "'model.onnx' cannot be read" in str(start_and_fail(run, place, version))


def test_a_model_that_takes_something_else_is_never_served(run: Run, place: "Place", versions: "Versions") -> None:
    """Names and datatypes must be those of the content."""
    version = versions.linear()
    other = replace(version, content=replace(version.content, inputs=(TensorSpec("z", "FP32", (-1, 3)),)))
    error = start_and_fail(run, place, other)
    assert error.reason == "serving.signature-mismatch"
    assert "{'x': 'FP32'}" in str(error)


def test_bytes_that_are_no_model_are_a_sentence(run: Run, place: "Place", versions: "Versions") -> None:
    """ONNX Runtime's refusal is passed on."""
    specs = [TensorSpec("x", "FP32", (-1, 3))]
    assert start_and_fail(run, place, versions.write(b"not a model", specs, specs)).reason == "runtime.unsupported-model"


def make_external(tools: "Tools") -> bytes:
    """Give a graph y = x + w with w in the file weights.bin beside it."""
    inputs, outputs = [TensorSpec("x", "FP32", (-1, 3))], [TensorSpec("y", "FP32", (-1, 3))]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3], np.zeros(3, np.float32).tobytes(), raw=True)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    return tools.build_model([helper.make_node("Add", ["x", "w"], ["y"])], inputs, outputs, [weights])


@pytest.mark.backends
def test_tensors_beside_the_model_are_verified_too(run: Run, place: "Place", versions: "Versions", tools: "Tools") -> None:
    """A model with external data serves with the listed file, and not when that file was changed."""
    inputs, outputs = [TensorSpec("x", "FP32", (-1, 3))], [TensorSpec("y", "FP32", (-1, 3))]
    weights = np.array([10, 20, 30], np.float32).tobytes()
    version = versions.write(make_external(tools), inputs, outputs, extra={"weights.bin": weights})

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(version)
            async with tools.connect(gateway.plane.port) as client:
                assert (await client.infer([1, 2, 3])).data == [11, 22, 33]

    run(scenario)
    (version.folder / "weights.bin").write_bytes(weights[::-1])
    assert "'weights.bin' has 12 bytes" in str(start_and_fail(run, place, version))


@pytest.mark.backends
def test_a_file_that_is_not_listed_is_never_loaded(
    run: Run, place: "Place", versions: "Versions", tools: "Tools", monkeypatch: pytest.MonkeyPatch
) -> None:
    """External data beside the model, or where the gateway runs, is not found unless the content lists it."""
    inputs, outputs = [TensorSpec("x", "FP32", (-1, 3))], [TensorSpec("y", "FP32", (-1, 3))]
    version = versions.write(make_external(tools), inputs, outputs)
    (version.folder / "weights.bin").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    monkeypatch.chdir(version.folder)
    assert start_and_fail(run, place, version).reason == "runtime.unsupported-model"


@pytest.mark.backends
def test_a_replica_that_dies_or_hangs_before_it_is_ready_is_a_sentence(
    run: Run, place: "Place", versions: "Versions", make_program: Callable[[str], tuple[str, ...]]
) -> None:
    """Signal or time-out: no traceback and no process is left."""
    killed = start_and_fail(run, place, versions.linear(), program=make_program("os.kill(os.getpid(), signal.SIGKILL)"))
    assert "m@1 was killed by SIGKILL" in str(killed)
    slow = start_and_fail(run, place, versions.linear(), program=make_program("time.sleep(60)"), limits=PoolLimits(start_seconds=1))
    assert "not ready after 1 s" in str(slow)


def test_a_program_that_is_none_is_a_sentence(run: Run, place: "Place", versions: "Versions") -> None:
    """The system's own words are passed on."""
    assert "cannot be started" in str(start_and_fail(run, place, versions.linear(), program=("/nonexistent",)))
    assert describe_status(3) == "exited with status 3"


def test_a_replica_imports_nothing_heavy() -> None:
    """ONNX Runtime and numpy, and none of the gateway's, registry's or training libraries."""
    script = (
        "import sys; import lastgood.serving.replica.program, lastgood.serving.replica.model, lastgood.serving.replica.serve;"
        "print(*{name.partition('.')[0] for name in sys.modules}, *(n for n in sys.modules if n.startswith('lastgood.')))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"onnxruntime", "numpy", "lastgood.runtime"} <= loaded
    forbidden = {
        "tensorflow",
        "prefect",
        "sqlalchemy",
        "pydantic",
        "msgspec",
        "httptools",
        "prometheus_client",
        "httpx",
        "structlog",
        "uvloop",
    }
    assert forbidden & loaded == set()
    assert [name for name in loaded if name.startswith(("lastgood.registry", "lastgood.monitoring", "lastgood.settings"))] == []


def test_a_replica_ends_with_its_gateway() -> None:
    """When the other end of the socket closes, the program exits by itself."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen([*PROGRAM, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    ours.close()
    assert process.wait(20) == 0


def test_a_gateway_that_is_killed_leaves_no_replica(versions: "Versions", tools: "Tools", run: Run, tmp_path: Path) -> None:
    """Kill -9 of the parent: the replica sees the end of its socket and exits."""
    version = versions.linear()
    (tmp_path / "content.json").write_bytes(version.content.to_bytes())
    script = (
        "import asyncio, sys, pathlib\n"
        "from lastgood.registry.content import Content\n"
        "from lastgood.serving.gateway.pool.pool import ReplicaPool\n"
        "async def main():\n"
        f"    content = Content.from_bytes(pathlib.Path({str(tmp_path / 'content.json')!r}).read_bytes())\n"
        f"    pool = ReplicaPool('m', 1, content.digest, content, pathlib.Path({str(version.folder)!r}))\n"
        "    await pool.start()\n"
        "    print(pool.pids[0], flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", script], stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        replica = psutil.Process(int(gateway.stdout.readline()))
        gateway.kill()
    with_end = os.pidfd_open(replica.pid) if replica.is_running() and replica.status() != psutil.STATUS_ZOMBIE else None

    async def scenario() -> None:
        if with_end is not None:
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(with_end, ended.set)
            async with asyncio.timeout(20):
                await ended.wait()
            asyncio.get_running_loop().remove_reader(with_end)
            os.close(with_end)

    run(scenario)
    assert not replica.is_running() or replica.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("outputs", "rows", "expected"),
    [
        ([np.array([[1.0], [2.0]])], 2, None),
        ([np.array([[1.0], [np.nan]]), np.array([[np.inf], [0.0]])], 2, [True, True]),
        ([np.array([[1.0], [np.nan]]), np.array([1, 2])], 2, [False, True]),
        ([np.array([1.0, np.nan])], None, [True]),
        ([np.array(np.inf)], 2, [True]),
        ([np.array(["nan"], object), np.array([2**60])], 1, None),
    ],
)
def test_rows_that_are_not_finite_are_found(outputs: list[np.ndarray[Any, Any]], rows: int | None, expected: list[bool] | None) -> None:
    """Each row has its own flag; what cannot be told apart has one for all."""
    flags = find_invalid(outputs, rows)
    assert expected == (None if flags is None else flags.tolist())
