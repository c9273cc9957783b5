"""Drift through a real gateway and its observer: found, noted, said, and never a reason to take a version out by itself."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lastgood.monitoring.drift.profile import make_profile
from lastgood.registry.content import Record
from lastgood.registry.registry import Registry
from lastgood.serving.client import Control
from lastgood.serving.gateway.rollouts.conductor import Conductor
from lastgood.serving.gateway.rollouts.intents import Intent
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import State
from lastgood.settings import ModelSettings, Settings

Run = Callable[[Callable[[], Awaitable[None]]], None]
QUICK = RolloutPolicy(steps=(0.5,), step_requests=30, step_seconds=0, soak_requests=30, soak_seconds=0)
LONG = QUICK.model_copy(update={"step_requests": 10**6})
# Version 2 answers something else, and no label says whether it is wrong.
SHIFTED = """
outputs = super().run(feeds)
return [outputs[0] + 40] if outputs[0].flat[0] == 2 * feeds["x"].flat[0] else outputs
"""


@pytest.fixture
def drifting(settings: Settings, versions: Any) -> Settings:
    """Two versions of model m with references: y = x and y = 2 x, of standard normal rows."""
    x = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    with Registry.open(settings, writer="cli") as registry:
        for number in (1, 2):
            profile = make_profile({"x": x}, {"y": number * x}).to_bytes()
            plain = versions.linear(float(number), 0.0)
            model = (plain.folder / "model.onnx").read_bytes()
            own = versions.write(model, plain.content.inputs, plain.content.outputs, extra={"drift.bin": profile})
            content = replace(own.content, drift="drift.bin")
            files = {entry.path: own.folder / entry.path for entry in content.files}
            registry.register("m", content, files, Record("ada", f"times {number}"), actor="ada")
    predictions = {"drift": {"rhythm": "none", "run_length": 10_000}}
    return settings.model_copy(update={"models": {"m": ModelSettings(predictions=predictions)}})


class Caller:
    """Asks for normal rows, shifted by so much."""

    def __init__(self, tools: Any, settings: Settings) -> None:
        self.tools, self.settings = tools, settings
        self.random = np.random.default_rng(1)

    async def ask(self, count: int, shift: float = 0.0) -> None:
        async with self.tools.connect(self.settings.port_rest) as client:
            for row in self.random.normal((shift, 0, 0), size=(count, 3)):
                assert 200 == (await client.infer(row.astype(np.float32).tolist())).status

    async def ask_until(self, conductor: Conductor, done: Callable[[], bool], shift: float = 0.0, most: int = 4000) -> None:
        for _ in range(most // 50):
            await self.ask(50, shift)
            await conductor.book.wait_for_news(0.15)
            if done():
                return
        pytest.fail("it did not come")


async def deploy(conductor: Conductor, caller: Caller, number: int, policy: RolloutPolicy, wanted: State) -> None:
    await conductor.submit(Intent(f"m@{number}", "canary", policy, "ada", "a test"))
    async with asyncio.timeout(60):
        while (rollout := conductor.book.held["m"].state.rollout) is None or rollout.state is not wanted:
            if conductor.reception.routes:
                await caller.ask(20)
            await conductor.book.wait_for_news(0.02)


def read_meaning(conductor: Conductor) -> str | None:
    """None: the observer has not told anything yet."""
    told = conductor.observation.drifts.models.get("m")
    return None if told is None else told.meaning.conclusion


def kinds(settings: Settings) -> list[str]:
    with Registry.open(settings, writer="test") as registry:
        return [event.kind for event in registry.events(model="m")]


def test_inputs_that_drift_are_found_named_and_noted_and_nobody_is_taken_out(drifting: Settings, tools: Any, run: Run) -> None:
    """One version serves: it means training again. When the drift is gone, that is noted too."""

    async def scenario() -> None:
        async with tools.run_conductor(drifting) as conductor:
            caller = Caller(tools, drifting)
            await deploy(conductor, caller, 1, QUICK, State.STABLE)
            await caller.ask(300)
            await caller.ask_until(conductor, lambda: read_meaning(conductor) == "retrain", shift=2.0)
            with Control(drifting) as control:
                found = (await asyncio.to_thread(control.quality, "m"))["drift"]
            assert "retrain" == found["meaning"]
            # Its answer is this input: chance says which of the two is named first.
            assert "in/x[0]" in {moved["feature"].split(" ")[0] for moved in found["versions"][0]["moved"]}
            async with tools.connect(drifting.port_control) as client:
                metrics = (await client.get("/metrics")).body.decode()
            assert 'lastgood_drift_meaning{meaning="retrain",model="m"} 1.0' in metrics
            await caller.ask_until(conductor, lambda: read_meaning(conductor) == "none", most=20_000)
            state = conductor.book.held["m"].state
            assert (1, None) == (state.live and state.live.number, state.running)

    run(scenario)
    assert ["drift-found", "drift-gone"] == [kind for kind in kinds(drifting) if kind.startswith("drift")]


def test_inputs_that_drift_for_both_roles_are_not_the_candidates_fault(drifting: Settings, tools: Any, run: Run) -> None:
    """The rollout goes on: neither withdrawn nor suspected."""

    async def scenario() -> None:
        async with tools.run_conductor(drifting) as conductor:
            caller, drifts = Caller(tools, drifting), conductor.observation.drifts
            await deploy(conductor, caller, 1, QUICK, State.STABLE)
            await deploy(conductor, caller, 2, LONG, State.CANARY)

            def raised() -> bool:  # the observer may not have told anything yet
                return "m" in drifts.models and [d.report["state"] for d in drifts.models["m"].versions.values()].count("raised") == 2

            await caller.ask_until(conductor, raised, shift=2.0)
            running = conductor.book.held["m"].state.running
            assert running is not None
            assert (State.CANARY, False) == (running.state, running.suspected)
            assert "suspect" != read_meaning(conductor)

    run(scenario)


def test_answers_of_the_candidate_alone_that_drift_make_it_a_suspect(
    drifting: Settings, tools: Any, run: Run, make_program: Callable[[str], tuple[str, ...]]
) -> None:
    """Not convicted: the judge decides by what it counts."""

    async def scenario() -> None:
        async with tools.run_conductor(drifting, make_program(SHIFTED)) as conductor:
            caller = Caller(tools, drifting)
            await deploy(conductor, caller, 1, QUICK, State.STABLE)
            await deploy(conductor, caller, 2, LONG, State.CANARY)
            held = conductor.book.held["m"]
            await caller.ask_until(conductor, lambda: held.state.running is not None and held.state.running.suspected)
            assert "suspect" == read_meaning(conductor)
            assert State.CANARY is (held.state.running and held.state.running.state)

    run(scenario)


def test_monitors_go_on_where_they_stopped(drifting: Settings, tools: Any, run: Run) -> None:
    """A gateway that starts again knows how many rows were compared."""

    async def scenario() -> None:
        async with tools.run_conductor(drifting) as conductor:
            caller = Caller(tools, drifting)
            await deploy(conductor, caller, 1, QUICK, State.STABLE)
            await caller.ask(200)
        async with tools.run_conductor(drifting) as conductor:
            drifts = conductor.observation.drifts
            await caller.ask_until(conductor, lambda: "m" in drifts.models and bool(drifts.models["m"].versions))
            assert drifts.models["m"].versions[1].rows > 200

    run(scenario)
