"""Real conductors over an installation of their own; their replicas are a fake at the backend's port, and never asked for anything."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Any

from faults import install_faults
from place import MODEL, register

from lastgood.serving.backends.replica import Launch, Need, Owner
from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.rollouts.conductor import Conductor
from lastgood.serving.gateway.rollouts.intents import Intent
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.settings import Settings

VERSIONS = 3
POLICY = RolloutPolicy(steps=(0.1,), step_requests=10**6, freeze_after=3)


class FakeReplica:
    """A replica that is ready at once; it has no slot, so nothing can be asked of it."""

    def __init__(self, launch: Launch) -> None:
        """Prepare."""
        self.slots: list[Any] = []
        self.ready, self.ready_at, self.report, self.adopted = False, 0.0, "it is a fake", False
        self.name, self.pid = launch.name, None

    async def start(self, timeout_seconds: float) -> None:
        """Be ready."""
        del timeout_seconds
        self.ready = True

    def run(self, slot: int, number: int, used: int) -> None:
        """Never be asked."""
        raise AssertionError((slot, number, used))

    def kill(self, why: str) -> None:
        """End."""
        del why
        self.ready = False

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """End."""
        del grace_seconds
        self.ready = False


class FakeBackend:
    """Where fake replicas run."""

    async def open(self, needed: Collection[Need]) -> None:
        """Do nothing."""

    def make(self, launch: Launch, owner: Owner) -> FakeReplica:
        """Prepare a replica."""
        del owner
        return FakeReplica(launch)

    async def close(self) -> None:
        """Do nothing."""


def make_installation(folder: Path) -> Path:
    """Make an installation with three versions, the second stable after the first; give its folder, to be copied."""
    install_faults()
    folder.mkdir(parents=True)
    register(make_settings(folder), folder, VERSIONS)
    asyncio.run(_make_stable(make_settings(folder), (1, 2)))
    return folder


async def _make_stable(settings: Settings, numbers: Collection[int]) -> None:
    conductor = await start(settings)
    for number in numbers:
        await conductor.submit(Intent(f"{MODEL}@{number}", "direct", POLICY, "ada", "a schedule"))
        held = conductor.book.held[MODEL]
        while held.state.running is not None and held.state.running.state == "staged":
            await conductor.book.wait_for_news(1)
        await conductor.promote(MODEL, actor="ada", why="a schedule")
    await conductor.close()


async def start(settings: Settings) -> Conductor:
    """Start a conductor with fake replicas."""
    conductor = Conductor(settings, Reception())
    conductor.shelf._backend = FakeBackend()  # noqa: SLF001 - the port where the fake is
    await conductor.start()
    return conductor


def make_settings(folder: Path) -> Settings:
    """Give the settings of an installation in a folder."""
    return Settings(project=folder, home=folder / ".lastgood")
