"""What is known of answers afterwards, with a real gateway, its replicas and its observer: shadow, labels, the prediction log."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from lastgood.errors import ConfigurationError
from lastgood.monitoring.judge.receipt import recompute
from lastgood.monitoring.predictions.columns import log_folder
from lastgood.monitoring.predictions.read import read_labelled, read_rows
from lastgood.registry.registry import Registry
from lastgood.serving.gateway.program import Gateway
from lastgood.serving.gateway.rollouts.conductor import Conductor
from lastgood.serving.gateway.rollouts.intents import Intent
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import Pin, State, Strategy
from lastgood.settings import ModelSettings, Settings

Run = Callable[[Callable[[], Awaitable[None]]], None]
QUICK = RolloutPolicy(steps=(0.5,), step_requests=30, step_seconds=0, soak_requests=30, soak_seconds=0)
LONG = QUICK.model_copy(update={"step_requests": 10**6})
# Version 2 names another class for a part of the requests: those whose first number is below 3 of 10.
OTHERWISE = """
outputs = super().run(feeds)
x = feeds["x"]
if outputs[0].flat[0] == 2 * x.flat[0] and len(x):
    outputs = [np.where(x[:, :1] % 10 < {below}, np.roll(outputs[0], 1, axis=1), outputs[0])]
return outputs
"""


class Caller:
    """Asks for rows whose class is known: the place of the largest of three numbers."""

    def __init__(self, tools: Any, settings: Settings) -> None:
        self.tools = tools
        self.settings = settings
        self.random = np.random.default_rng(1)
        self.asked = 0

    async def ask(self, count: int, *, label: bool = False, headers: str = "") -> list[Any]:
        """Ask that often, and tell the labels at once if so; give the replies."""
        replies = []
        async with self.tools.connect(self.settings.port_rest) as client:
            for _ in range(count):
                self.asked += 1
                known = int(self.random.integers(3))
                row = [float(self.asked % 10 + 1)] * 3
                row[known] += 20
                row[0] = float(self.asked % 10) + (20 if known == 0 else 0)
                reply = await client.infer(row, headers=headers)
                replies.append(reply)
                if label and reply.status == 200:
                    body = {"labels": [{"id": reply.json["id"], "label": known}]}
                    assert 202 == (await client.post("/v2/models/m/feedback", json.dumps(body).encode())).status
        return replies


async def deploy(conductor: Conductor, number: int, *, strategy: Strategy = "canary", policy: RolloutPolicy = QUICK) -> None:
    await conductor.submit(Intent(f"m@{number}", strategy, policy, "ada", "a test"))


async def settle(caller: Caller, conductor: Conductor, wanted: State, *, label: bool = False, seconds: float = 60) -> None:
    """Ask until the rollout is in that state."""
    async with asyncio.timeout(seconds):
        while (rollout := conductor.book.held["m"].state.rollout) is None or rollout.state is not wanted:
            if conductor.reception.routes:
                await caller.ask(20, label=label)
            await conductor.book.wait_for_news(0.02)


async def release_first(caller: Caller, conductor: Conductor) -> None:
    await deploy(conductor, 1)
    await settle(caller, conductor, State.STABLE)


def read_withdrawal(settings: Settings) -> dict[str, Any]:
    """Give the receipt of the last withdrawal, computed again."""
    with Registry.open(settings, writer="test") as registry:
        assert registry.verify().ok
        event = next(event for event in registry.events(model="m", newest_first=True) if event.kind == "withdrawn")
    receipt: dict[str, Any] = event.payload["receipt"]
    assert recompute(receipt).agrees
    return receipt


def test_a_shadow_gets_copies_whose_answers_nobody_sees_and_goes_on_to_the_canary(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """Its answers are the live version's in every second request or so afterwards, and none before."""

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            caller = Caller(tools, settings)
            await release_first(caller, conductor)
            await deploy(conductor, 2, strategy="shadow", policy=LONG.model_copy(update={"shadow_requests": 50, "shadow_seconds": 0}))
            held = conductor.book.held["m"]
            while held.state.split.shadow is None:
                await conductor.book.wait_for_news(1)
            first = await caller.ask(40)
            assert {(200, "1", "baseline")} == {(r.status, r.headers["x-lastgood-version"], r.headers["x-lastgood-role"]) for r in first}
            await settle(caller, conductor, State.CANARY)
            assert held.counts is not None
            assert held.counts.pairs.compared >= 50
            assert 0 == held.counts.pairs.disagreed
            assert {"1", "2"} == {r.headers["x-lastgood-version"] for r in await caller.ask(40)}
            meter = conductor.reception.pools["m", 2].meter.roles["shadow"]
            assert meter.requests["production", "ok"] >= 50

    run(scenario)


def test_a_shadow_that_answers_otherwise_than_the_gate_accepted_is_withdrawn_unseen(
    settings: Settings, pins: dict[int, Pin], make_program: Any, tools: Any, run: Run
) -> None:
    """By disagreement alone, without a label; no caller ever gets one of its answers."""

    async def scenario() -> None:
        async with tools.run_conductor(settings, make_program(OTHERWISE.replace("{below}", "3"))) as conductor:
            caller = Caller(tools, settings)
            await release_first(caller, conductor)
            policy = LONG.model_copy(update={"accepted_disagreement": 0.02, "shadow_requests": 10**6})
            await deploy(conductor, 2, strategy="shadow", policy=policy)
            await settle(caller, conductor, State.WITHDRAWN)
            assert pins[1] == conductor.book.held["m"].state.live
            assert pins[2].digest in conductor.book.vetoed
            assert not set(conductor.reception.pools) & {("m", 2)} or "candidate" not in conductor.reception.pools["m", 2].meter.roles

    run(scenario)
    assert ("bad", "shadow") == tuple(read_withdrawal(settings)["verdict"][name] for name in ("decision", "kind"))


@pytest.mark.parametrize(("strategy", "kind"), [("shadow", "labels"), ("canary", "wrong")])
def test_labels_convict_a_version_that_is_wrong_too_often(
    settings: Settings, pins: dict[int, Pin], make_program: Any, tools: Any, run: Run, strategy: Strategy, kind: str
) -> None:
    """Pair by pair in the shadow, by the coin in the canary."""

    async def scenario() -> None:
        async with tools.run_conductor(settings, make_program(OTHERWISE.replace("{below}", "6"))) as conductor:
            caller = Caller(tools, settings)
            await release_first(caller, conductor)
            await deploy(conductor, 2, strategy=strategy, policy=LONG.model_copy(update={"shadow_requests": 10**6}))
            await settle(caller, conductor, State.WITHDRAWN, label=True)

    run(scenario)
    receipt = read_withdrawal(settings)
    assert ("bad", kind) == tuple(receipt["verdict"][name] for name in ("decision", "kind"))


def test_labels_of_good_versions_convict_nobody_and_give_their_accuracy(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """By version, role and slice; told twice they count once."""

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            caller = Caller(tools, settings)
            await release_first(caller, conductor)
            await deploy(conductor, 2)
            await settle(caller, conductor, State.STABLE, label=True)
            (reply,) = await caller.ask(1, headers="x-lastgood-slice: night\r\n")
            async with tools.connect(settings.port_rest) as client:
                label = {"id": reply.json["id"], "label": int(np.argmax(reply.data))}
                for _ in range(2):
                    await client.post("/v2/models/m/feedback", json.dumps({"labels": [label]}).encode())
            known = conductor.observation.models["m"]
            async with asyncio.timeout(20):
                while not known.labelled["2", "live", "night"] or not known.repeated:
                    await conductor.book.wait_for_news(1)
            assert 1 == known.labelled["2", "live", "night"]
            roles = {role for version, role, _ in known.labelled if version == "2"}
            assert {"candidate", "live"} <= roles
            assert known.labelled == known.correct

    run(scenario)


def test_an_observer_that_dies_loses_no_request_and_another_one_takes_its_place(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """What it knew of unlabelled requests is gone; the log on the disk, and what was counted, is not."""

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            caller, process = Caller(tools, settings), conductor.observation.process
            await release_first(caller, conductor)
            first = process.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            assert {200} == {reply.status for reply in await caller.ask(50)}
            async with asyncio.timeout(20):
                while process.pid in {None, first}:
                    await conductor.book.wait_for_news(0.05)
            before = conductor.observation.models["m"].labelled.total()
            async with asyncio.timeout(20):
                while conductor.observation.models["m"].labelled.total() == before:
                    await caller.ask(10, label=True)
                    await conductor.book.wait_for_news(0.1)

    run(scenario)


def test_what_an_observer_counted_outlives_it_without_a_log_too(settings: Settings, pins: dict[int, Pin], tools: Any, run: Run) -> None:
    """A counter only rises, whoever counts on."""
    quiet = settings.model_copy(update={"models": {"m": ModelSettings(predictions={"log": False})}})

    async def repeat(known: Any, conductor: Conductor, reply: Any, most: int) -> None:
        async with tools.connect(settings.port_rest) as client, asyncio.timeout(20):
            while known.repeated < most:
                body = json.dumps({"labels": [{"id": reply.json["id"], "label": 0}]}).encode()
                await client.post("/v2/models/m/feedback", body)
                await conductor.book.wait_for_news(0.05)

    async def scenario() -> None:
        async with tools.run_conductor(quiet) as conductor:
            caller, process = Caller(tools, quiet), conductor.observation.process
            await release_first(caller, conductor)
            known = conductor.observation.models["m"]
            await repeat(known, conductor, (await caller.ask(1))[0], 5)
            first, before = process.pid, known.repeated
            assert first is not None
            os.kill(first, signal.SIGKILL)
            async with asyncio.timeout(20):
                while process.pid in {None, first}:
                    await conductor.book.wait_for_news(0.05)
            await repeat(known, conductor, (await caller.ask(1))[0], before + 1)
            assert before < known.repeated < before + 100

    run(scenario)


def test_requests_and_answers_are_in_the_prediction_log_with_their_labels(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """What was asked, bit for bit, by whom it was answered, and what it should have been."""

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            caller = Caller(tools, settings)
            await release_first(caller, conductor)
            await caller.ask(30, label=True, headers="x-lastgood-traffic: evaluation\r\n")

    run(scenario)
    folder = log_folder(settings.home, "m")
    rows = read_rows(folder)
    assert np.array_equal(rows["in/x"], rows["out/y"])
    assert {1} == set(rows["version"].tolist())
    labelled = read_labelled(folder)
    assert 30 == len(labelled.ids)
    assert np.array_equal(labelled.answer, labelled.label)
    assert {"evaluation"} == set(labelled.traffic.tolist())


def test_what_the_project_redacts_never_reaches_the_disk_and_without_its_function_nothing_does(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """A misspelt function is said and stops the log, not the requests."""
    (settings.project / "secrets_of_ours.py").write_text(
        "def redact(table):\n    return {k: v for k, v in table.items() if k != 'in/x'}\n", "utf-8"
    )

    def scenario(name: str) -> Callable[[], Awaitable[None]]:
        own = settings.model_copy(update={"models": {"m": ModelSettings(predictions={"redact": name})}})

        async def go() -> None:
            async with tools.run_conductor(own) as conductor:
                caller = Caller(tools, own)
                if "m" not in conductor.book.held:
                    await release_first(caller, conductor)
                assert {200} == {reply.status for reply in await caller.ask(10)}
                if "missing" in name:
                    async with asyncio.timeout(20):
                        while (kept := conductor.observation.models["m"].kept) is None or "missing" not in kept.problem:
                            await conductor.book.wait_for_news(1)

        return go

    run(scenario("secrets_of_ours:missing"))
    assert not list(log_folder(settings.home, "m").rglob("*.parquet"))
    run(scenario("secrets_of_ours:redact"))
    rows = read_rows(log_folder(settings.home, "m"))
    assert "out/y" in rows
    assert "in/x" not in rows


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{}", "missing required field"),
        (b'{"labels": [{"id": "a"}]}', "label"),
        (b'{"labels": [{"id": "", "label": 1}]}', "length"),
        (b'{"labels": [{"id": "a", "label": -1}]}', ">= 0"),
        (b"\xff", "no feedback"),
        (b'{"labels": [{"id": "a", "label": 2}, {"id": "b", "label": 3}]}', "labels[1].label is 3; the model names one of 3 classes"),
    ],
)
def test_feedback_that_is_none_is_refused_with_what_is_expected(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run, body: bytes, says: str
) -> None:
    """And a model that is not served is not found."""

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            await release_first(Caller(tools, settings), conductor)
            async with tools.connect(settings.port_rest) as client:
                reply = await client.post("/v2/models/m/feedback", body)
                assert 400 == reply.status
                assert says in reply.json["error"]
                assert 404 == (await client.post("/v2/models/none/feedback", b"{}")).status

    run(scenario)


def test_settings_of_the_log_that_cannot_be_are_said_before_anything_starts(settings: Settings) -> None:
    """With the names there are."""
    own = settings.model_copy(update={"models": {"m": ModelSettings(predictions={"sample": 2})}})
    with pytest.raises(ConfigurationError, match=r"models\.m\.predictions.*sample = 2.*max_bytes"):
        Gateway(own)
