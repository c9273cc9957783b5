"""
Replicas as child processes.

The child inherits one end of a socket pair. A pidfd tells the event loop when it ended, so that it is reaped at once and
nothing waits in a thread.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

from lastgood.serving.backends.connected import ConnectedReplica
from lastgood.serving.backends.replica import Launch, Need, Owner, ReplicaFailedError
from lastgood.serving.backends.spare import Child, Spare
from lastgood.serving.replica.memory import OUT_OF_MEMORY_STATUS

log = logging.getLogger(__name__)
# -P: the folder the gateway runs in must not shadow what the replica imports.
PROGRAM: Final = (sys.executable, "-P", "-m", "lastgood.serving.replica")
_COUNTERS: Final = Path("/proc/vmstat")
_HINT: Final = "its standard error says more"


class ProcessBackend:
    """Children of the gateway: they end with it, so that nothing of an earlier one is ever found."""

    def __init__(self, *, spare: bool = False) -> None:
        """
        Prepare; nothing runs yet.

        Args:
            spare: Whether to keep one process ready to become a replica; `close` ends it.
        """
        self._spare = Spare(keep=spare)

    async def open(self, needed: Collection[Need]) -> None:
        """Do nothing: there is nothing to get ready."""

    def make(self, launch: Launch, owner: Owner) -> "ReplicaProcess":
        """Prepare a replica; nothing runs yet."""
        return ReplicaProcess(launch, owner, self._spare)

    async def close(self) -> None:
        """End the spare; each replica was stopped by whoever started it."""
        self._spare.close()


class ReplicaProcess(ConnectedReplica):
    """One child process; start it once."""

    def __init__(self, launch: Launch, owner: Owner, spare: Spare) -> None:
        """Prepare; nothing runs yet."""
        super().__init__(launch, owner)
        self._program = launch.program or PROGRAM
        self._spare = spare
        self._popen: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._oom_kills = 0  # of the whole machine, when it started

    @property
    def pid(self) -> int | None:
        """The child's process id, None before the start."""
        return self._popen.pid if self._popen else None

    async def _begin(self) -> None:
        child: Child | None = None
        try:
            child = self._spare.take(self._program) or Child.start(self._program)
            self._converse(child.connection, str(self._launch.folder.resolve()), self._launch.memory_bytes)
        except OSError as exc:
            if child is not None:
                child.end()
            self._exited.set()
            raise ReplicaFailedError(f"The replica of {self.name} cannot be started: {exc}.") from exc
        self._oom_kills = count_oom_kills()
        self._popen = child.popen
        self._pidfd = os.pidfd_open(self._popen.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    async def start(self, timeout_seconds: float) -> None:
        """Start it, wait until it is ready, and have another process in reserve from then on."""
        await super().start(timeout_seconds)
        try:
            self._spare.refill(self._program)
        except OSError as exc:
            log.warning("no process can be kept in reserve: %s", exc)

    async def _ask_to_end(self, grace_seconds: float) -> None:
        if self._popen is None:
            self._exited.set()
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                await self._exited.wait()
        except TimeoutError:
            return

    def _end(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        # Until `_reap` closed the pidfd the child is unreaped, so the number cannot belong to another process.
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, number)

    def _reap(self) -> None:
        assert self._popen is not None  # noqa: S101  # the pidfd is of this child
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        status = self._popen.wait()  # it has ended: this does not wait
        how = describe_status(status)
        if status == OUT_OF_MEMORY_STATUS and self._launch.memory_bytes is not None:
            how = f"used up its {self._launch.memory_bytes} bytes of memory and ended; memory_bytes in [serving] sets the limit"
        elif status == -signal.SIGKILL and (more := count_oom_kills() - self._oom_kills) > 0:
            how += f"; since it started the kernel ended {more} process{'es' * (more > 1)} for want of memory"
        self._finish(how, _HINT)


def count_oom_kills() -> int:
    """Give how many processes the kernel has ended for want of memory since it booted; 0 where it does not say."""
    try:
        lines = _COUNTERS.read_text("ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def describe_status(status: int) -> str:
    """Say how a process ended, from `subprocess.Popen.returncode`."""
    if status < 0:
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"
    return f"exited with status {status}"
