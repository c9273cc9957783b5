"""Comparing what is live because an alert asked: with a real registry, real replicas and real ports, in this process."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lastgood.errors import ConflictError
from lastgood.registry.registry import Registry
from lastgood.serving.gateway.rollouts.alerts import Alert
from lastgood.serving.gateway.rollouts.conductor import Conductor
from lastgood.serving.gateway.rollouts.intents import Intent
from lastgood.serving.gateway.rollouts.withdrawals import Reason
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import Pin, State
from lastgood.settings import Settings

POLICY = RolloutPolicy(steps=(0.5,), step_requests=60, step_seconds=0, soak_requests=60, soak_seconds=0)
# Version 2 takes its time while a file exists.
SLOW = """
from pathlib import Path
outputs = super().run(feeds)
if Path("{flag}").exists() and outputs[0].flat[0] == 2 * feeds["x"].flat[0]:
    time.sleep(0.02)
return outputs
"""
Run = Callable[[Callable[[], Awaitable[None]]], None]
# Version 2 fails one request in twenty while a file exists.
SELDOM = """
from pathlib import Path
outputs = super().run(feeds)
if Path("{flag}").exists() and outputs[0].flat[0] == 2 * feeds["x"].flat[0]:
    self.count = getattr(self, "count", 0) + 1
    if self.count % 20 == 0:
        raise RuntimeError("bad now and then")
return outputs
"""


def intent(number: int, *, replace: bool = False) -> Intent:
    return Intent(f"m@{number}", "canary", POLICY, "ada", "a test", replace)


def alert(number: int, began: datetime | None = None) -> Alert:
    return Alert("LastgoodErrorRatio", True, "m", number, "compare", began or datetime.now(UTC), "fails now and then", "f")


async def ask(tools: Any, settings: Settings, count: int) -> list[int]:
    """Ask that often; give the statuses."""
    async with tools.connect(settings.port_rest) as client:
        return [(await client.infer([1.0, 2.0, 3.0])).status for _ in range(count)]


async def settle(tools: Any, settings: Settings, conductor: Conductor, wanted: State) -> None:
    """Ask until the rollout is in that state."""
    async with asyncio.timeout(60):
        while (rollout := conductor.book.held["m"].state.rollout) is None or rollout.state is not wanted:
            if conductor.reception.routes:
                await ask(tools, settings, 20)
            else:
                await conductor.book.wait_for_news(0.2)


async def release(tools: Any, settings: Settings, conductor: Conductor, *numbers: int) -> None:
    for number in numbers:
        await conductor.submit(intent(number))
        await settle(tools, settings, conductor, State.STABLE)


async def compared(conductor: Conductor) -> None:
    """Wait until a comparison runs."""
    held = conductor.book.held["m"]
    async with asyncio.timeout(20):
        while held.state.running is None or not held.state.running.comparison:
            await conductor.book.wait_for_news(1)


def kinds(settings: Settings) -> list[str]:
    with Registry.open(settings, writer="test") as registry:
        assert registry.verify().ok
        return [event.kind for event in registry.events(model="m")]


def test_a_stable_version_that_fails_now_and_then_is_compared_and_gives_way_to_its_fallback(
    settings: Settings, pins: dict[int, Pin], make_program: Any, tmp_path: Path, tools: Any, run: Run
) -> None:
    """5 % of errors after it was stable: the alert brings half to the last proven version, and the judge withdraws."""
    flag = tmp_path / "bad"
    program = make_program(SELDOM.replace("{flag}", str(flag)))

    async def scenario() -> None:
        async with tools.run_conductor(settings, program) as conductor:
            await release(tools, settings, conductor, 1, 2)
            flag.touch()
            assert [] != [status for status in await ask(tools, settings, 40) if status != 200]
            began = datetime.now(UTC)
            assert "compare" == (await conductor.hear(alert(2, began))).result
            await compared(conductor)
            split = conductor.book.held["m"].state.split
            assert (pins[1], pins[2], 0.5) == (split.main, split.candidate, split.share)
            await settle(tools, settings, conductor, State.WITHDRAWN)
            state = conductor.book.held["m"].state
            assert (pins[1], pins[1], "judge") == (state.live, state.stable, state.rollout and state.rollout.cause)
            assert {pins[2].digest} == conductor.book.vetoed
            assert {200} == set(await ask(tools, settings, 40))
            assert "ignored" == (await conductor.hear(alert(2, began))).result
            await conductor.withdrawals.settle()
        found = kinds(settings)
        assert (1, 1) == (found.count("comparison-begun"), found.count("withdrawn"))
        assert found.index("comparison-begun") < found.index("withdrawn")

    run(scenario)


def test_a_good_version_is_stable_again_and_the_repeated_alert_changes_nothing(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """The same alert again, during the comparison, after it and after a restart; one that began later is a new question."""

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            await release(tools, settings, conductor, 1, 2)
            began = datetime.now(UTC)
            assert "compare" == (await conductor.hear(alert(2, began))).result
            assert "ignored" == (await conductor.hear(alert(2, began))).result
            await compared(conductor)
            assert "ignored" == (await conductor.hear(alert(2, began))).result
            await settle(tools, settings, conductor, State.STABLE)
            state = conductor.book.held["m"].state
            assert (pins[2], pins[2]) == (state.live, state.stable)
            generation = conductor.book.generation("m")
            ruling = await conductor.hear(alert(2, began))
            assert ("ignored", True) == (ruling.result, "has been compared" in ruling.reason)
            assert (generation, state) == (conductor.book.generation("m"), conductor.book.held["m"].state)
        async with tools.run_conductor(settings) as conductor:
            assert "ignored" == (await conductor.hear(alert(2, began))).result
            assert "compare" == (await conductor.hear(alert(2))).result
            await compared(conductor)
        assert 2 == kinds(settings).count("comparison-begun")
        # The gateway ended in the middle of a comparison: the next one goes on with it.
        async with tools.run_conductor(settings) as conductor:
            await settle(tools, settings, conductor, State.STABLE)

    run(scenario)


def test_where_no_other_version_is_proven_a_person_is_told_once(settings: Settings, pins: dict[int, Pin], tools: Any, run: Run) -> None:
    """There is nothing to compare with: it goes on serving."""

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            await release(tools, settings, conductor, 1)
            for _ in range(3):
                ruling = await conductor.hear(alert(1))
                assert ("ignored", True) == (ruling.result, "no proven version to compare it with" in ruling.reason)
        assert 1 == kinds(settings).count("page")

    run(scenario)


def test_a_baseline_that_does_not_come_up_is_passed_over(settings: Settings, pins: dict[int, Pin], tools: Any, run: Run) -> None:
    """Its stored bytes are damaged: the next proven version is the baseline."""

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            await release(tools, settings, conductor, 1, 2, 3)
            conductor.shelf.keep_only("m", [pins[3]])
            with Registry.open(settings, writer="test") as registry:
                (model,) = [entry for entry in registry.content(pins[2].digest).files if entry.path == "model.onnx"]
            stored = next((settings.home / "registry" / "files").rglob(f"{model.sha256[2:]}*"))
            data = bytearray(stored.read_bytes())
            data[len(data) // 2] ^= 1
            stored.chmod(0o644)
            stored.write_bytes(bytes(data))
            assert "compare" == (await conductor.hear(alert(3))).result
            await compared(conductor)
            assert pins[1] == conductor.book.held["m"].state.split.main
            await settle(tools, settings, conductor, State.STABLE)

    run(scenario)


def test_a_release_waits_for_the_verdict_unless_a_person_replaces_the_comparison(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """Then the live version stays, as before the alert, and the release goes on beside it; `--only` takes out no comparison."""

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            await release(tools, settings, conductor, 1, 2)
            await conductor.hear(alert(2))
            await compared(conductor)
            with pytest.raises(ConflictError, match="ends the comparison without"):
                await conductor.submit(intent(3))
            with pytest.raises(ConflictError, match="live already"):
                await conductor.submit(intent(2, replace=True))
            with pytest.raises(ConflictError, match="compared with it"):
                await conductor.submit(intent(1, replace=True))
            await conductor.rollback("m", to=None, reason=Reason("person", "ci", "gave up"), only=pins[2].digest)
            assert pins[2] == conductor.book.held["m"].state.live
            await conductor.submit(intent(3, replace=True))
            running = conductor.book.held["m"].state.running
            assert (pins[3], pins[2], pins[2]) == (
                running and running.candidate,
                running and running.baseline,
                running and running.fallback,
            )
            await settle(tools, settings, conductor, State.STABLE)
            assert set() == conductor.book.vetoed

    run(scenario)


def test_an_alert_that_began_before_the_version_came_in_starts_nothing(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """It speaks of an earlier episode."""

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            await release(tools, settings, conductor, 1, 2)
            assert "ignored" == (await conductor.hear(alert(2, datetime.now(UTC) - timedelta(hours=1)))).result
        assert 0 == kinds(settings).count("comparison-begun")

    run(scenario)


def test_a_version_that_has_become_slow_is_convicted_beside_a_baseline_that_had_not_answered_before(
    settings: Settings, pins: dict[int, Pin], make_program: Any, tmp_path: Path, tools: Any, run: Run
) -> None:
    """What is slow is known as soon as the baseline has answered enough."""
    flag = tmp_path / "slow"
    program = make_program(SLOW.replace("{flag}", str(flag)))
    policy = POLICY.model_copy(update={"step_requests": 10**6, "soak_requests": 60})

    async def scenario() -> None:
        async with tools.run_conductor(settings, program) as conductor:
            for number in (1, 2):
                await conductor.submit(Intent(f"m@{number}", "direct", policy, "ada", "a test"))
                await settle(tools, settings, conductor, State.STABLE)
            flag.touch()
            assert "compare" == (await conductor.hear(alert(2))).result
            await compared(conductor)
            await settle(tools, settings, conductor, State.WITHDRAWN)
            assert pins[1] == conductor.book.held["m"].state.live

    run(scenario)
    with Registry.open(settings, writer="test") as registry:
        event = next(event for event in registry.events(model="m", newest_first=True) if event.kind == "withdrawn")
    assert "slow" == event.payload["receipt"]["verdict"]["kind"]
