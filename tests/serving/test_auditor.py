"""The gateway looks after its event log."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from lastgood.registry.registry import Registry
from lastgood.serving.gateway.program import Gateway
from lastgood.serving.gateway.rollouts import auditor as auditing
from lastgood.serving.gateway.rollouts.auditor import Auditor
from lastgood.serving.gateway.rollouts.record import SharedRecord
from lastgood.serving.rollout.table import Pin
from lastgood.settings import Settings

Run = Callable[[Callable[[], Awaitable[None]]], None]


def damage(settings: Settings, statement: str) -> None:
    connection = sqlite3.connect(settings.home / "registry" / "catalogue.db")
    for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.execute(statement)
    connection.commit()
    connection.close()


def test_the_metric_says_broken_after_an_event_was_changed_and_whole_after_it_was_put_back(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run
) -> None:
    """By a real gateway over its control port, checked at its start."""

    async def scenario() -> None:
        for statement, wanted in (
            ("UPDATE events SET actor = 'ada' WHERE position = 1", 0.0),
            ("UPDATE events SET actor = 'eve' WHERE position = 1", 1.0),
            ("UPDATE events SET actor = 'ada' WHERE position = 1", 0.0),
        ):
            damage(settings, statement)
            (settings.home / "gateway" / "checked.json").unlink(missing_ok=True)
            gateway = Gateway(settings)
            await gateway.start()
            try:
                await tools.wait_until(lambda own=gateway: own.conductor.auditor.broken is not None)
                async with httpx.AsyncClient() as http:
                    text = (await http.get(f"{settings.control_url}/metrics")).text
                assert f"\nlastgood_event_chain_broken {wanted}\n" in text
            finally:
                await gateway.stop()

    run(scenario)


def test_it_goes_on_where_it_was_and_begins_again_after_a_day_or_when_something_is_wrong(
    settings: Settings, pins: dict[int, Pin], run: Run
) -> None:
    """An old event that was changed without its hash is not read every hour; within a day it is found, and then held on to."""

    async def scenario() -> None:
        record, path = SharedRecord(settings), settings.home / "checked.json"
        await record.open()
        try:
            auditor = Auditor(record, path)
            await auditor.check()
            assert auditor.broken is False
            with Registry.open(settings, writer="cli") as registry:
                known = len(registry.events())
                registry.describe(registry.resolve("m@1"), "later", actor="ada")
            assert known == json.loads(path.read_text("utf-8"))["position"]
            damage(settings, "UPDATE events SET actor = 'eve' WHERE position = 1")
            await auditor.check()
            assert (False, known + 1) == (auditor.broken, json.loads(path.read_text("utf-8"))["position"])
            kept = json.loads(path.read_text("utf-8"))
            path.write_text(json.dumps({**kept, "since": time.time() - auditing.WHOLE_SECONDS - 1}), "utf-8")
            for _ in range(2):
                await auditor.check()
                assert auditor.broken is True
            path.write_text("torn", "utf-8")
            damage(settings, "UPDATE events SET actor = 'ada' WHERE position = 1")
            await auditor.check()
            assert auditor.broken is False
        finally:
            await record.close()

    run(scenario)


def test_a_registry_that_does_not_answer_is_asked_again(
    settings: Settings, pins: dict[int, Pin], tools: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither whole nor broken meanwhile."""

    async def scenario() -> None:
        monkeypatch.setattr(auditing, "RETRY_SECONDS", 0.01)
        record = SharedRecord(settings)
        await record.open()
        table = "ALTER TABLE writers RENAME TO {}"
        damage(settings, table.format("moved"))
        auditor = Auditor(record, settings.home / "checked.json")
        task = asyncio.create_task(auditor.run())
        await asyncio.sleep(0.1)
        found = [auditor.broken]
        damage(settings, "ALTER TABLE moved RENAME TO writers")
        await tools.wait_until(lambda: auditor.broken is not None)
        assert [None, False] == [*found, auditor.broken]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await record.close()

    run(scenario)
