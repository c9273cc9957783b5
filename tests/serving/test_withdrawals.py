"""Withdrawals and what happens around them while the shared record is away, with a real registry and real replicas."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from lastgood.errors import UnavailableError
from lastgood.registry.registry import Registry
from lastgood.serving.client import Control
from lastgood.serving.gateway.rollouts import conductor as conductor_module
from lastgood.serving.gateway.rollouts.alerts import Alert
from lastgood.serving.gateway.rollouts.conductor import Conductor
from lastgood.serving.gateway.rollouts.intents import Intent
from lastgood.serving.gateway.rollouts.journal import Entry, Journal
from lastgood.serving.gateway.rollouts.record import SharedRecord
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import Pin
from lastgood.settings import Settings

Run = Callable[[Callable[[], Awaitable[None]]], None]
POLICY = RolloutPolicy(steps=(0.5,), step_requests=10**6)


async def release(tools: Any, conductor: Conductor, number: int) -> None:
    """Bring a version to stable, vouched for by a person."""
    await conductor.submit(Intent(f"m@{number}", "direct", POLICY, "ada", "a test"))
    held = conductor.book.held["m"]
    await tools.wait_until(lambda: held.state.running is not None and held.state.running.state == "soaking")
    await conductor.promote("m", actor="ada", why="a test")


def alert(number: int) -> Alert:
    return Alert("LastgoodFailing", True, "m", number, "rollback", datetime.now(UTC), "fails", "f")


def test_what_is_given_does_not_overtake_what_was_taken_away(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a withdrawal cannot be recorded, nothing else is: else its tombstone and its aliases never would be."""

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            for number in (1, 2):
                await release(tools, conductor, number)
            away, write = [True], SharedRecord.write

            async def refuse(own: SharedRecord, change: Any, expected: int, notes: Any, **named: Any) -> int:
                if away[0] and any(note.kind == "withdrawn" for note in notes):
                    raise UnavailableError("The database is away.")
                return await write(own, change, expected, notes, **named)

            monkeypatch.setattr(SharedRecord, "write", refuse)
            assert "rollback" == (await conductor.hear(alert(2))).result
            assert pins[1] == conductor.book.held["m"].state.live
            with pytest.raises(UnavailableError, match="away"):
                await conductor.submit(Intent("m@3", "canary", POLICY, "ada", "a test"))
            away[0] = False
            await conductor.submit(Intent("m@3", "canary", POLICY, "ada", "a test"))
            await conductor.withdrawals.settle()
        with Registry.open(settings, writer="test") as registry:
            assert [pins[2].digest] == list(registry.tombstones())
            assert pins[1].digest == registry.aliases("m")["live"].digest
            assert 1 == sum(event.kind == "withdrawn" for event in registry.events(model="m"))
            assert registry.verify().ok

    run(scenario)


def test_a_person_is_told_at_once_what_was_done_whether_it_is_recorded_or_not(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk or a database that is away must not look like a gateway that is."""
    monkeypatch.setattr(conductor_module, "_RECORD_SECONDS", 0.05)

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            for number in (1, 2):
                await release(tools, conductor, number)
            away, write = [True], SharedRecord.write

            async def refuse(own: SharedRecord, *positional: Any, **named: Any) -> int:
                if away[0]:
                    raise UnavailableError("The disk is full.")
                return await write(own, *positional, **named)

            monkeypatch.setattr(SharedRecord, "write", refuse)
            with Control(settings) as control:
                state = await asyncio.to_thread(control.rollback, "m", to=None, keep=False, actor="ada", why="a test")
                assert (1, 1) == (state["live"]["number"], state["unrecorded"])
                away[0] = False
                await conductor.withdrawals.settle()
                assert 0 == (await asyncio.to_thread(control.state, "m"))["unrecorded"]

    run(scenario)


def test_an_incident_that_is_recorded_is_done_and_undoes_no_lift(settings: Settings, pins: dict[int, Pin], tools: Any, run: Run) -> None:
    """A decision whose closing line was lost with the gateway, or that another gateway took too, is in the record already."""

    async def scenario() -> None:
        heard = alert(2)
        async with tools.run_conductor(settings) as conductor:
            for number in (1, 2):
                await release(tools, conductor, number)
            heard = alert(2)
            await conductor.hear(heard)
            await conductor.withdrawals.settle()
            await conductor.lift(pins[2].digest, actor="ada", why="it was the camera")
            await release(tools, conductor, 2)
        incident = f"alert/{heard.name}/{heard.began.isoformat()}/{pins[2].digest}"
        journal = Journal(settings.home / "gateway" / "withdrawals.jsonl")
        entry = Entry("e1", datetime.now(UTC).isoformat(), "m", 2, pins[2].digest, "alert", True, "alert", "bad", {}, incident=incident)
        journal.append(entry)
        journal.close()
        async with tools.run_conductor(settings) as conductor:
            await conductor.withdrawals.settle()
            assert pins[2] == conductor.book.held["m"].state.live
            assert set() == conductor.book.vetoed
        with Registry.open(settings, writer="test") as registry:
            assert {} == registry.tombstones()
            assert 1 == sum(event.kind == "withdrawn" for event in registry.events(model="m"))

    run(scenario)


def test_a_decision_about_an_earlier_episode_takes_nothing_out(settings: Settings, pins: dict[int, Pin], tools: Any, run: Run) -> None:
    """The version has come in anew since: it serves, and is no tombstone."""

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            for number in (1, 2):
                await release(tools, conductor, number)
        journal = Journal(settings.home / "gateway" / "withdrawals.jsonl")
        now = datetime.now(UTC).isoformat()
        journal.append(Entry("e1", now, "m", 2, pins[2].digest, "alert", True, "alert", "x", {}, since="2020-01-01T00:00:00+00:00"))
        journal.close()
        async with tools.run_conductor(settings) as conductor:
            await conductor.withdrawals.settle()
            assert (pins[2], set()) == (conductor.book.held["m"].state.live, conductor.book.vetoed)
        with Registry.open(settings, writer="test") as registry:
            assert {} == registry.tombstones()

    run(scenario)
