"""What a large version took is given back when another one serves."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper

from lastgood.registry.content import Record
from lastgood.registry.registry import Registry
from lastgood.serving.client import Control
from lastgood.settings import Settings
from lastgood.stack.services import answers, environment
from lastgood.tensors import TensorSpec

if TYPE_CHECKING:
    from tests.serving.conftest import Tools, Versions

LARGE_BYTES = 128 << 20
POLICY = {"steps": [0.5], "step_requests": 1, "step_seconds": 0.0, "soak_requests": 1_000_000, "soak_seconds": 0.0}


def register(settings: Settings, versions: "Versions", tools: "Tools", number: int) -> None:
    """Register a version with a table of that many bytes, which no other version shares."""
    inputs, outputs = [TensorSpec("x", "INT64", (-1, 1))], [TensorSpec("y", "FP32", (-1, 1))]
    table = np.random.default_rng(number).random(LARGE_BYTES // 4, np.float32)
    tensor = helper.make_tensor("table", TensorProto.FLOAT, [table.size], table.tobytes(), raw=True)
    version = versions.write(
        tools.build_model([helper.make_node("Gather", ["table", "x"], ["y"])], inputs, outputs, [tensor]), inputs, outputs
    )
    with Registry.open(settings, writer="cli") as registry:
        files = {entry.path: version.folder / entry.path for entry in version.content.files}
        registry.register("m", version.content, files, Record("ada", f"table {number}"), actor="ada")


def swap(control: Control, number: int) -> dict[str, Any]:
    """Make a version live, end its rollout, and wait until no other one is up."""
    control.deploy(f"m@{number}", strategy="direct", policy=POLICY, actor="ada", why="a test")
    for state in control.watch("m", seconds=60):
        if state["rollout"]["state"] == "soaking":
            break
    control.promote("m", actor="ada", why="a test")
    return control.state("m")


def count_large(gateway: psutil.Process) -> int:
    """Count the processes that hold a version."""
    return sum(child.memory_info().rss > LARGE_BYTES for child in gateway.children())


def await_true(question: Callable[[], bool], seconds: float = 30) -> None:
    """Ask another process, which announces nothing, until it says yes."""
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_a_swap_of_large_versions_leaves_nothing_in_the_gateway(
    settings: Settings, versions: "Versions", tools: "Tools", tmp_path: Path
) -> None:
    """After four swaps between versions of 128 MB the gateway has not grown by half of one; the replicas of those put away are gone."""
    for number in range(1, 6):
        register(settings, versions, tools, number)
    program = [sys.executable, "-m", "lastgood.serving.gateway"]
    with subprocess.Popen(program, cwd=tmp_path, env={**os.environ, **environment(settings)}) as gateway:
        try:
            await_true(answers(f"{settings.control_url}/healthz"))
            process = psutil.Process(gateway.pid)
            with Control(settings) as control:
                swap(control, 1)
                before = process.memory_info().rss
                for number in range(2, 6):
                    swap(control, number)
                grown = process.memory_info().rss - before
                assert grown < LARGE_BYTES // 2, f"{grown} bytes"
                await_true(lambda: count_large(process) == 2)  # what is live, and what it would be taken back to
        finally:
            gateway.terminate()
