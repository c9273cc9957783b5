"""What is set for a model reaches its replicas, and is told to whoever asks."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from lastgood.cli.routes import tell_replicas
from lastgood.replicas import ReplicaSettings, ServingSettings
from lastgood.runtime import ProviderMissingError, choose_providers, name_provider, open_session
from lastgood.serving.gateway.rollouts.intents import Intent
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.settings import Settings

POLICY = RolloutPolicy(steps=(0.5,), step_requests=1, step_seconds=0, soak_requests=1_000_000, soak_seconds=0)
Run = Callable[[Callable[[], Awaitable[None]]], None]


def limit_of(pid: int) -> int:
    """Give the limit of a process's data in bytes."""
    (line,) = (line for line in Path(f"/proc/{pid}/limits").read_text("ascii").splitlines() if line.startswith("Max data size"))
    return int(line.split()[3])


@pytest.mark.backends
@pytest.mark.usefixtures("pins")
def test_a_version_has_the_replicas_of_its_model(settings: Settings, tools: Any, run: Run) -> None:
    """Two processes of three threads with a limit, in the state, in words, and in the metrics; the provider is the one in use."""
    own = ReplicaSettings(replicas=2, threads=3, providers=("openvino", "cpu"), memory_bytes=1 << 29)
    settings = settings.model_copy(update={"serving": ServingSettings(models={"m": own})})

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway:
            await gateway.conductor.submit(Intent("m@1", "direct", POLICY, "ada", "a test", False))
            async with asyncio.timeout(30):
                while "m" not in gateway.conductor.reception.routes:
                    await gateway.conductor.book.wait_for_news(0.2)
            async with tools.connect(settings.port_control) as client:
                (model,) = (await client.get("/routes")).json["routes"]
                metrics = (await client.get("/metrics")).body.decode()
            async with tools.connect(settings.port_rest) as client:
                assert [1, 2, 3] == (await client.infer([1, 2, 3])).data
            found = model["lanes"][0]["replicas"]
            pids = found.pop("pids")
            assert {"wanted": 2, "threads": 3, "providers": ["cpu"], "memory_bytes": 1 << 29} == found
            assert 2 == len(set(pids))
            assert "2 of 2 cpu, 3 threads" == tell_replicas({**found, "pids": pids})
            assert 'lastgood_replica_info{model="m",provider="cpu",replicas="2",threads="3",version="1"} 1.0' in metrics
            if settings.backend == "process":
                assert {1 << 29} == set(map(limit_of, pids))

    run(scenario)


def test_one_replica_of_one_thread_is_said_shortly() -> None:
    """And a version that is not up has none."""
    assert "1 of 1 cpu" == tell_replicas({"pids": [7], "wanted": 1, "providers": ["cpu"], "threads": 1})
    assert "-" == tell_replicas(None)


def test_the_first_provider_that_is_there_is_used(versions: Any) -> None:
    """One that is not there falls to the next in the list; the answers are those of the default, bit for bit."""
    file = versions.linear(0.1, 0.7).folder / "model.onnx"
    rows = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)
    default, chosen = open_session(file), open_session(file, providers=("cuda", "cpu"))
    assert ["cpu", "cpu"] == [name_provider(default), name_provider(chosen)]
    plain = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    expected = plain.run(None, {"x": rows})[0].tobytes()
    assert [expected] * 2 == [session.run(None, {"x": rows})[0].tobytes() for session in (default, chosen)]


def test_a_provider_that_is_not_there_or_does_not_start_is_an_error(versions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what there is; a provider that ONNX Runtime names and cannot start is none either."""
    file = versions.linear().folder / "model.onnx"
    with pytest.raises(ProviderMissingError, match=r"\['cuda'\].*it has \['cpu'\]"):
        open_session(file, providers=("cuda",))
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert ["CUDAExecutionProvider"] == choose_providers(["tensorrt", "cuda"])
    real = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", lambda source, options, providers: real(source, options))  # noqa: ARG005
    with pytest.raises(ProviderMissingError, match="could start none of them on this machine and fell back to cpu"):
        open_session(file, providers=("cuda",))
