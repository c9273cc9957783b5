"""Cooling down: what has just failed is not released again by itself; asked beforehand, and refused by the gateway."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lastgood.errors import ConflictError
from lastgood.pipelines.cooldown import find_cooldown
from lastgood.registry.content import Record
from lastgood.registry.registry import Registry
from lastgood.serving.client import Control
from lastgood.serving.gateway.program import Gateway
from lastgood.serving.gateway.rollouts.withdrawals import Reason
from lastgood.settings import Settings

Run = Callable[[Callable[[], Awaitable[None]]], None]
LINEAGE = ("c1", "d1")


@pytest.fixture
def versions_of_lineages(settings: Settings, versions: Any) -> None:
    """Four versions of model m: all but the third of the same commit and data."""
    with Registry.open(settings, writer="cli") as registry:
        for number, (commit, data) in enumerate((LINEAGE, LINEAGE, ("c2", "d1"), LINEAGE), 1):
            version = versions.linear(float(number), 0.0)
            files = {entry.path: version.folder / entry.path for entry in version.content.files}
            registry.register("m", version.content, files, Record("ada", "x", commit=commit, data=data), actor="ada")


def test_an_automatic_release_of_what_has_just_failed_is_refused_and_a_persons_is_not(
    settings: Settings, versions_of_lineages: None, tools: Any, run: Run, tmp_path: Path
) -> None:
    """Over the control port: the sentence names both and until when; another commit, a lift, or time ends it."""

    async def scenario() -> None:
        gateway = Gateway(settings)
        await gateway.start()
        held = gateway.conductor.book.held

        async def deploy(number: int, *, automatic: bool, cooldown: float = 600.0) -> None:
            with Control(settings) as control:
                await asyncio.to_thread(
                    control.deploy,
                    f"m@{number}",
                    strategy="direct",
                    policy={"cooldown_seconds": cooldown},
                    actor="loop",
                    why="drift",
                    automatic=automatic,
                )
            await tools.wait_until(lambda: (own := held["m"].state.running) is None or own.state != "staged")

        try:
            await deploy(1, automatic=True)
            await gateway.conductor.promote("m", actor="ada", why="good")
            await deploy(2, automatic=True)
            running = held["m"].state.running
            assert running is not None
            gateway.conductor.withdrawals.take("m", running.candidate, Reason("judge", "judge", "more errors"))
            with pytest.raises(ConflictError, match=r"m@4 is not .* m@2, of the same commit and data.*until 20.*A person may") as caught:
                await deploy(4, automatic=True)
            assert 6 == caught.value.exit_code
            now, asked = datetime.now(UTC), (settings, "m", *LINEAGE)
            cooldown = find_cooldown(*asked, now)
            assert ("m@2", "judge") == (cooldown and cooldown.version, cooldown and cooldown.cause)
            assert find_cooldown(*asked, now + timedelta(days=1)) is None
            assert find_cooldown(settings, "m", "c2", "d1", now) is None
            assert find_cooldown(settings, "m", None, "d1", now) is None
            assert find_cooldown(settings, "n", *LINEAGE, now) is None
            await deploy(3, automatic=True)  # another commit
            await gateway.conductor.rollback("m", to=None, reason=Reason("person", "ada", "x", tombstone=False))
            await deploy(4, automatic=False)  # a person may
            await gateway.conductor.rollback("m", to=None, reason=Reason("person", "ada", "x", tombstone=False))
            await deploy(4, automatic=True, cooldown=0.0)
            await gateway.conductor.rollback("m", to=None, reason=Reason("person", "ada", "x", tombstone=False))
            (bad,) = gateway.conductor.book.vetoed
            await gateway.conductor.lift(bad, actor="ada", why="it was the camera")
            assert find_cooldown(*asked, datetime.now(UTC)) is None
            await deploy(4, automatic=True)
        finally:
            await gateway.stop()

    run(scenario)
