"""Each further built-in model through the whole path: trained, compressed, gated, registered, rolled out on traffic, answering."""

import json
import re
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.system.conftest import User

SETTINGS = """
[models.{model}.rollout]
steps = [0.5]
step_requests = 20
step_seconds = 0.2
soak_requests = 40
soak_seconds = 0.5
"""
MODELS = {"fraud": ["--set", "trees=50"], "recommend": ["--set", "epochs=3"], "docs": ["--set", "epochs=8"]}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_they_become_stable_and_answer(user: "User") -> None:
    """With Prefect's own temporary server, as on a machine where only the gateway is up."""
    (user.folder / "lastgood.toml").write_text("".join(SETTINGS.format(model=model) for model in MODELS), "utf-8")
    user.run("up", "gateway")
    for model, changes in MODELS.items():
        arguments = ["release", model, "--seed", "1", *changes, "--traffic", "evaluation", "--wait", "stable"]
        released = user.run(*arguments)
        (curl,) = [line for line in released.stdout.splitlines() if line.startswith("curl ")]
        (place,) = re.findall(r"largest number should be at place (\d+)", released.stdout)
        answer = json.loads(subprocess.run(shlex.split(curl), capture_output=True, text=True, timeout=20, check=True).stdout)
        numbers = answer["outputs"][0]["data"]
        assert int(place) == numbers.index(max(numbers))
    assert {f"{model}@1": 1.0 for model in MODELS} == user.serving()
