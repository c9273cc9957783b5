"""A gateway that computes in its own process, with everything else as it is: what isolation costs is the difference to it."""

import asyncio
import sys
from collections.abc import Collection

from lastgood.serving.backends.replica import Launch, Need, Owner, ReplicaFailedError
from lastgood.serving.gateway.program import main
from lastgood.serving.gateway.rollouts import conductor
from lastgood.serving.replica import notices
from lastgood.serving.replica.model import Model, prove
from lastgood.serving.replica.package import read_package
from lastgood.serving.replica.serve import run_batch
from lastgood.serving.replica.slots import Slot


class ReplicaHere:
    """A model in this process; what a replica does with a batch, it does in the next loop tick."""

    pid: int | None = None
    adopted = False

    def __init__(self, launch: Launch, owner: Owner) -> None:
        """Prepare."""
        self.name = launch.name
        self.slots: list[Slot] = []
        self.ready = False
        self.ready_at = 0.0
        self.report = self.provider = ""
        self._launch = launch
        self._owner = owner
        self._loop = asyncio.get_running_loop()

    async def start(self, timeout_seconds: float) -> None:
        """Load it."""
        del timeout_seconds
        package = read_package(self._launch.content, self._launch.digest, self._launch.folder)
        self._model = Model.open(package)
        self.report, self.provider = prove(self._model, package), self._model.provider
        self.slots = [Slot.create(self._launch.slot_bytes) for _ in range(self._launch.slots)]
        self.ready, self.ready_at = True, self._loop.time()

    def beats(self) -> int | None:
        """Have no heart of its own."""
        return None

    def run(self, slot: int, number: int, used: int) -> None:
        """Compute soon."""
        self._loop.call_soon(self._run, slot, number, used)

    def _run(self, slot: int, number: int, used: int) -> None:
        _, _, number, used, seconds, flagged = notices.unpack(run_batch(self._model, self.slots[slot], slot, number, used))
        self._owner.on_done(self, number, used, seconds, flagged=flagged)

    def kill(self, why: str) -> None:
        """Never be wrong."""
        raise ReplicaFailedError(why)

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Let go of the memory."""
        del grace_seconds
        self.ready = False
        for slot in self.slots:
            slot.close()


class Here:
    """This process as a place where replicas run."""

    async def open(self, needed: Collection[Need]) -> None:
        """Do nothing."""

    def make(self, launch: Launch, owner: Owner) -> ReplicaHere:
        """Prepare a replica."""
        return ReplicaHere(launch, owner)

    async def close(self) -> None:
        """Do nothing."""


if __name__ == "__main__":
    conductor.make_backend = lambda _: Here()
    sys.exit(main())
