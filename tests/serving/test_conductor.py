"""The conductor with a real registry, real replicas and real ports, in this process."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from lastgood.errors import ConflictError, FrozenError, NotFoundError, TombstonedError
from lastgood.registry.registry import Registry
from lastgood.serving.gateway.lock import HomeTakenError, hold
from lastgood.serving.gateway.rollouts.alerts import Alert
from lastgood.serving.gateway.rollouts.conductor import Conductor
from lastgood.serving.gateway.rollouts.intents import Intent
from lastgood.serving.gateway.rollouts.journal import Entry, Journal
from lastgood.serving.gateway.rollouts.withdrawals import Reason
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import Pin, State
from lastgood.settings import Settings

QUICK = RolloutPolicy(steps=(0.5,), step_requests=5, step_seconds=0, soak_requests=5, soak_seconds=0)
Run = Callable[[Callable[[], Awaitable[None]]], None]


def intent(number: int, *, policy: RolloutPolicy = QUICK, replace: bool = False) -> Intent:
    return Intent(f"m@{number}", "canary", policy, "ada", "a test", replace)


async def ask(tools: Any, settings: Settings, count: int = 1) -> list[str]:
    """Ask that often; give the versions that answered."""
    async with tools.connect(settings.port_rest) as client:
        replies = [await client.infer([1.0, 2.0, 3.0]) for _ in range(count)]
    for reply in replies:
        assert [float(reply.json["model_version"]) * x for x in (1, 2, 3)] == reply.data
    return [reply.json["model_version"] for reply in replies]


async def settle(tools: Any, settings: Settings, conductor: Conductor, wanted: State) -> None:
    """Ask until the rollout is in that state."""
    async with asyncio.timeout(30):
        while (rollout := conductor.book.held["m"].state.rollout) is None or rollout.state is not wanted:
            if conductor.reception.routes:
                await ask(tools, settings, 5)
            else:
                await conductor.book.wait_for_news(0.2)


async def release(tools: Any, settings: Settings, conductor: Conductor, number: int) -> None:
    await conductor.submit(intent(number))
    await settle(tools, settings, conductor, State.STABLE)


@pytest.mark.backends
def test_release_canary_and_rollback(settings: Settings, pins: dict[int, Pin], tools: Any, run: Run) -> None:
    """Aliases, tombstone and answers agree after each step, and a tombstoned version cannot be deployed."""

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway:
            conductor = gateway.conductor
            await release(tools, settings, conductor, 1)
            await release(tools, settings, conductor, 2)
            assert {"2"} == set(await ask(tools, settings, 5))
            await conductor.rollback("m", to=None, reason=Reason("person", "ada", "no good"))
            assert {"1"} == set(await ask(tools, settings, 5))
            with pytest.raises(TombstonedError, match="lift"):
                await conductor.submit(intent(2))
            with pytest.raises(ConflictError, match="live already"):
                await conductor.submit(intent(1))
            await conductor.lift(pins[2].digest[:20], actor="ada", why="it was the camera")
            await release(tools, settings, conductor, 2)
        with Registry.open(settings, writer="test") as registry:
            assert pins[2].digest == registry.aliases("m")["stable"].digest
            assert {} == registry.tombstones()
            assert registry.verify().ok

    run(scenario)


@pytest.mark.backends
def test_a_version_whose_golden_answers_differ_never_gets_a_request(settings: Settings, pins: dict[int, Pin], tools: Any, run: Run) -> None:
    """It is withdrawn as not ready, without a tombstone, and the baseline goes on."""

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway:
            conductor = gateway.conductor
            await release(tools, settings, conductor, 1)
            await conductor.submit(intent(4))
            await settle(tools, settings, conductor, State.WITHDRAWN)
            assert "golden" in str(conductor.book.held["m"].reason).lower()
            assert {"1"} == set(await ask(tools, settings, 10))
            assert set() == conductor.book.vetoed

    run(scenario)


@pytest.mark.backends
def test_a_second_rollout_is_a_conflict_and_replace_takes_the_first_out(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """One rollout per model; the replaced one may be deployed again."""

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway:
            conductor = gateway.conductor
            await release(tools, settings, conductor, 1)
            await conductor.submit(intent(2, policy=RolloutPolicy(steps=(0.5,), step_requests=10**6)))
            await settle(tools, settings, conductor, State.CANARY)
            with pytest.raises(ConflictError, match="--replace"):
                await conductor.submit(intent(3))
            await conductor.submit(intent(3, replace=True))
            await settle(tools, settings, conductor, State.STABLE)
            assert {"3"} == set(await ask(tools, settings, 5))
            await release(tools, settings, conductor, 2)

    run(scenario)


def test_a_suspect_that_gives_no_further_cause_goes_on(settings: Settings, pins: dict[int, Pin], tools: Any, run: Run) -> None:
    """An alert with action compare halves the share at most, holds the step, and after a clean step the rollout ends stable."""

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway:
            conductor = gateway.conductor
            await release(tools, settings, conductor, 1)
            await conductor.submit(
                intent(2, policy=RolloutPolicy(steps=(0.5,), step_requests=50, step_seconds=0, soak_requests=50, soak_seconds=0))
            )
            await settle(tools, settings, conductor, State.CANARY)
            alert = Alert("Latency", True, "m", 2, "compare", datetime.now(UTC), "slow", "f")
            assert "compare" == (await conductor.hear(alert)).result
            running = conductor.book.held["m"].state.running
            assert running is not None
            assert running.suspected
            await settle(tools, settings, conductor, State.STABLE)

    run(scenario)


def test_a_candidate_that_fails_now_and_then_gets_half_of_the_traffic(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """Three bad answers in 120 at 10 %: the shared record and the route say one half, and the judge goes on in a new step."""

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway:
            conductor = gateway.conductor
            await release(tools, settings, conductor, 1)
            await conductor.submit(intent(2, policy=RolloutPolicy(steps=(0.1,), step_requests=10**6)))
            await settle(tools, settings, conductor, State.CANARY)
            await ask(tools, settings, 1)
            held = conductor.book.held["m"]
            assert held.counts is not None
            first = held.counts.steps[-1]
            first.baseline.tally.requests = first.baseline.tally.batches = 1_000
            for _ in range(3):
                # As if dealt and answered: no version here fails on its own.
                first.candidate.tally.requests += 40
                first.candidate.tally.batches += 40
                first.candidate.tally.failed += 1
                conductor._watch.look(held)
            async with asyncio.timeout(10):
                while not math.isclose(0.5, held.state.split.share):
                    await conductor.book.wait_for_news(0.2)
            assert {"1", "2"} == set(await ask(tools, settings, 40))
            assert 2 == len(held.counts.steps)
            assert math.isclose(0.5, held.counts.steps[-1].share)
        with Registry.open(settings, writer="test") as registry:
            assert "rollout-halved" in {event.kind for event in registry.events(model="m")}

    run(scenario)


def test_three_automatic_withdrawals_freeze_the_model_until_a_person_unfreezes_it(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """Alerts take versions 2 and 3 out, then 2 again after a lift; then nothing is released."""

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway:
            conductor = gateway.conductor
            await release(tools, settings, conductor, 1)
            for number in (2, 3, 2):
                await release(tools, settings, conductor, number)
                alert = Alert("Failing", True, "m", number, "rollback", datetime.now(UTC), "bad", "f")
                assert "rollback" == (await conductor.hear(alert)).result
                assert "ignored" == (await conductor.hear(alert)).result
                assert {"1"} == set(await ask(tools, settings, 3))
                await conductor.lift(pins[number].digest, actor="ada", why="a test")
            with pytest.raises(FrozenError, match="unfreeze"):
                await conductor.submit(intent(3))
            await conductor.unfreeze("m", actor="ada", why="looked into it")
            await release(tools, settings, conductor, 3)

    run(scenario)


@pytest.mark.backends
def test_a_withdrawal_in_the_journal_is_applied_before_anything_is_served(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """A gateway that died after its one line does not give the version another request, and records the withdrawal."""

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway:
            await release(tools, settings, gateway.conductor, 1)
            await release(tools, settings, gateway.conductor, 2)
        journal = Journal(settings.home / "gateway" / "withdrawals.jsonl")
        journal.append(Entry("e1", datetime.now(UTC).isoformat(), "m", 2, pins[2].digest, "alert", True, "alert", "bad", {}))
        journal.close()
        async with tools.run_gateway(settings) as gateway:
            assert {"1"} == set(await ask(tools, settings, 10))
            await gateway.conductor.withdrawals.settle()
            with pytest.raises(TombstonedError):
                await gateway.conductor.submit(intent(2))
        with Registry.open(settings, writer="test") as registry:
            assert pins[1].digest == registry.aliases("m")["live"].digest
            assert [pins[2].digest] == list(registry.tombstones())
            assert 1 == sum(event.kind == "withdrawn" for event in registry.events(model="m"))

    run(scenario)


@pytest.mark.backends
def test_a_rollout_goes_on_after_a_restart_with_the_counts_it_had(settings: Settings, pins: dict[int, Pin], tools: Any, run: Run) -> None:
    """Killing the gateway neither restarts the judge's evidence nor loses the rollout."""

    async def scenario() -> None:
        policy = RolloutPolicy(steps=(0.5,), step_requests=10**6)
        async with tools.run_gateway(settings) as gateway:
            await release(tools, settings, gateway.conductor, 1)
            await gateway.conductor.submit(intent(2, policy=policy))
            await settle(tools, settings, gateway.conductor, State.CANARY)
            await ask(tools, settings, 40)
            counts = gateway.conductor.book.held["m"].counts
            assert counts is not None
            counted = counts.freeze()
        async with tools.run_gateway(settings) as gateway:
            held = gateway.conductor.book.held["m"]
            assert held.counts is not None
            before = held.counts.freeze()[: len(counted)]
            assert [s.candidate.requests for s in counted] == [s.candidate.requests for s in before]
            assert held.state.running is not None
            assert math.isclose(0.5, held.state.split.share)
            await gateway.conductor.promote("m", actor="ada", why="good enough")
            assert {"2"} == set(await ask(tools, settings, 5))

    run(scenario)


def test_what_is_not_there_is_said(settings: Settings, tools: Any, pins: dict[int, Pin], run: Run) -> None:
    """Unknown models and versions, and nothing to take out."""

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway:
            conductor = gateway.conductor
            with pytest.raises(NotFoundError):
                await conductor.submit(intent(9))
            with pytest.raises(NotFoundError, match="none"):
                await conductor.promote("m", actor="ada", why="why")
            with pytest.raises(NotFoundError):
                await conductor.lift("sha256:000000", actor="ada", why="why")

    run(scenario)


def test_two_gateways_cannot_share_a_home(settings: Settings) -> None:
    """The second is told who holds it."""
    with hold(settings.home / "gateway"), pytest.raises(HomeTakenError, match="lastgood down"), hold(settings.home / "gateway"):
        pass


def test_the_baseline_cannot_be_deployed_to_end_a_rollout_and_nothing_is_taken_out(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """Even with replace: a refusal changes nothing, and says which command is meant."""

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway:
            conductor = gateway.conductor
            await release(tools, settings, conductor, 1)
            await conductor.submit(intent(2, policy=RolloutPolicy(steps=(0.5,), step_requests=10**6)))
            await settle(tools, settings, conductor, State.CANARY)
            with pytest.raises(ConflictError, match="lastgood rollback m"):
                await conductor.submit(intent(1, replace=True))
            running = conductor.book.held["m"].state.running
            assert running is not None
            assert pins[2] == running.candidate

    run(scenario)


def test_a_first_version_that_is_replaced_while_it_soaks_pages_nobody_and_can_be_vouched_for(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """It stays as the baseline; if it is live again later, a person may let it be stable."""

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway:
            conductor = gateway.conductor
            await conductor.submit(intent(1, policy=RolloutPolicy(soak_requests=10**6)))
            await settle(tools, settings, conductor, State.SOAKING)
            await conductor.submit(intent(2, policy=RolloutPolicy(steps=(0.5,), step_requests=10**6), replace=True))
            await settle(tools, settings, conductor, State.CANARY)
            await conductor.rollback("m", to=None, reason=Reason("person", "ada", "no good", tombstone=False))
            assert {"1"} == set(await ask(tools, settings, 5))
            state = await conductor.promote("m", actor="ada", why="it served well")
            assert pins[1] == state.stable
        with Registry.open(settings, writer="test") as registry:
            assert [] == [event for event in registry.events(model="m") if event.kind == "page"]
            assert pins[1].digest == registry.aliases("m")["stable"].digest

    run(scenario)


@pytest.mark.backends
def test_a_damaged_live_version_is_unavailable_and_the_gateway_not_ready(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """One flipped bit while the gateway was down: 503 with a sentence, and health says no."""

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway:
            await release(tools, settings, gateway.conductor, 1)
        with Registry.open(settings, writer="test") as registry:
            (model,) = [entry for entry in registry.content(pins[1].digest).files if entry.path == "model.onnx"]
        stored = next((settings.home / "registry" / "files").rglob(f"{model.sha256[2:]}*"))
        data = bytearray(stored.read_bytes())
        data[len(data) // 2] ^= 1
        stored.chmod(0o644)
        stored.write_bytes(bytes(data))
        async with tools.run_gateway(settings) as gateway, tools.connect(settings.port_rest) as client:
            assert 503 == (await client.infer([1.0, 2.0, 3.0])).status
            assert 503 == (await client.get("/v2/health/ready")).status
            assert "model.onnx" in str(gateway.conductor.book.held["m"].reason)

    run(scenario)
