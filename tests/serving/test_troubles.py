"""A machine in trouble: no verdict on a version, few lines in the log, and everything goes on when there is room again."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from lastgood.errors import UnavailableError
from lastgood.registry.content import Content
from lastgood.serving.gateway.rollouts.book import Book
from lastgood.serving.gateway.rollouts.intents import Intent
from lastgood.serving.gateway.rollouts.record import SharedRecord
from lastgood.serving.gateway.troubles import Troubles, is_machines_fault
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import Pin, State
from lastgood.settings import Settings

Run = Callable[[Callable[[], Awaitable[None]]], None]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere")
SLOW = RolloutPolicy(soak_requests=1000, soak_seconds=600)


def deploy(policy: RolloutPolicy, number: int = 1) -> Intent:
    return Intent(f"m@{number}", "canary", policy, "ada", "a test", False)


async def wait_for(conductor: Any, state: State) -> None:
    async with asyncio.timeout(30):
        while (rollout := conductor.book.held["m"].state.rollout) is None or rollout.state is not state:
            await conductor.book.wait_for_news(0.2)


def fails_like(code: int) -> UnavailableError:
    exc = UnavailableError("it does not come up")
    exc.__cause__ = OSError(code, os.strerror(code))
    return exc


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE, errno.ENOMEM])
def test_the_machine_is_to_blame_however_deep_the_reason_lies(code: int) -> None:
    """Also behind our own sentence; a file that is not there is another thing."""
    assert is_machines_fault(fails_like(code))
    assert not is_machines_fault(fails_like(errno.ENOENT))
    assert not is_machines_fault(ValueError("a bug"))


def test_a_trouble_is_told_when_it_begins_once_a_minute_and_when_it_ends() -> None:
    """Twenty times a second for two and a half minutes: four lines, none with a traceback."""
    now = 0.0
    troubles = Troubles(lambda: now)
    with capture_logs() as lines:
        for number in range(3001):
            now = number * 0.05
            troubles.report("cannot be kept", FULL, path="/here")
        troubles.end("cannot be kept", path="/here")
        troubles.end("cannot be kept", path="/here")
    assert ["cannot be kept"] * 3 + ["over"] == [line["event"] for line in lines]
    assert [1, 1201, 2401, 3001] == [line["times"] for line in lines]
    assert "No space left" in lines[0]["why"]
    assert "/here" == lines[0]["path"]
    assert not any("exc_info" in line for line in lines)


def test_a_bug_keeps_its_traceback_and_is_told_once_a_minute() -> None:
    """The same place is the same bug; another place is told at once."""
    now = 0.0
    troubles = Troubles(lambda: now)

    def first() -> None:
        raise ValueError("one")

    def second() -> None:
        raise ValueError("one")

    def fail(bug: Callable[[], None]) -> None:
        try:
            bug()
        except ValueError as exc:
            troubles.report("a task failed", exc, task="t")

    with capture_logs() as lines:
        for _ in range(10):
            fail(first)
        fail(second)
        now = 61.0
        fail(first)
    assert [1, 1, 11] == [line["times"] for line in lines]
    assert all(isinstance(line["exc_info"], ValueError) for line in lines)


def test_tasks_that_fail_for_one_reason_are_one_line_and_lasting_ones_do_not_delay_the_end(run: Run) -> None:
    """Twenty that cannot write; then one that can. What may last for ever is cancelled at once."""

    async def scenario() -> None:
        book, full = Book(), True

        async def write() -> None:
            if full:
                raise FULL

        async def last() -> None:
            await asyncio.Event().wait()

        with capture_logs() as lines:
            for _ in range(20):
                book.spawn(write())
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            full = False
            book.spawn(write())
            await asyncio.sleep(0.01)
        assert ["a task of the gateway failed", "over"] == [line["event"] for line in lines]
        assert 20 == lines[1]["times"]
        book.spawn(last(), lasting=True)
        async with asyncio.timeout(2):
            await book.close(seconds=30)

    run(scenario)


def test_a_full_disk_at_the_start_is_no_verdict(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not ready, a sentence that names the machine, and up by itself when there is room; the full disk is a fake at the copying."""
    full, refusals = False, 0
    copy = SharedRecord.materialize

    async def materialize(self: SharedRecord, digest: str, folder: Path) -> Content:
        nonlocal refusals
        if full:
            refusals += 1
            raise FULL
        return await copy(self, digest, folder)

    monkeypatch.setattr(SharedRecord, "materialize", materialize)

    async def scenario() -> None:
        nonlocal full
        async with tools.run_conductor(settings) as conductor:
            await conductor.submit(deploy(SLOW))
            await wait_for(conductor, State.SOAKING)
            await conductor.promote("m", actor="ada", why="a test")
        full = True
        async with tools.run_gateway(settings) as gateway, tools.connect(settings.port_rest) as client:
            held = gateway.conductor.book.held["m"]
            assert 503 == (await client.get("/v2/health/ready")).status
            assert 503 == (await client.infer([1.0, 2.0, 3.0])).status
            assert held.reason.startswith("m@1 is not up because of this machine, and is tried again: ")
            assert "No space left" in held.reason
            assert held.reason == held.paged
            await tools.wait_until(lambda: refusals >= 3)  # at the start, right after it, and a second later
            assert not gateway.plane.ready
            full = False
            await tools.wait_until(lambda: gateway.plane.ready, seconds=30)
            assert [1, 2, 3] == (await client.infer([1.0, 2.0, 3.0])).data
            await tools.wait_until(lambda: held.reason is None and held.paged is None)
            assert pins[1] == held.state.live

    run(scenario)


def test_counts_that_cannot_be_kept_are_kept_later(settings: Settings, pins: dict[int, Pin], tools: Any, run: Run) -> None:
    """A disk that is full for a second (`/dev/full`): one line, one when it is over, and the file then has everything."""
    del pins
    full = settings.home / "gateway" / "counts" / "m.json.new"

    async def scenario() -> None:
        async with tools.run_conductor(settings) as conductor:
            await conductor.submit(deploy(SLOW))
            await wait_for(conductor, State.SOAKING)
            path = full.with_name("m.json")
            with capture_logs() as lines:
                full.symlink_to("/dev/full")
                async with tools.connect(settings.port_rest) as client:
                    for _ in range(5):
                        assert 200 == (await client.infer([1.0, 2.0, 3.0])).status
                await asyncio.sleep(1)
                full.unlink()
                await tools.wait_until(lambda: path.exists() and '"requests": 5' in path.read_text("utf-8"))
            told = [line for line in lines if "counts of a rollout" in line["event"] or "counts of a rollout" in line.get("what", "")]
            assert ["warning", "info"] == [line["log_level"] for line in told]
            assert told[1]["times"] >= 3
            assert "No space left" in told[0]["why"]
            assert str(path) == told[0]["path"]
            assert not [line for line in lines if "exc_info" in line]

    run(scenario)
