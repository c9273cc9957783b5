"""
A replica in a container of its own.

The gateway listens on a socket file that is mounted into the container; the replica calls, and from there on everything
is as with a child process: the end of the connection is the end of the replica. A replica whose gateway is gone calls
again for a while, so that the next gateway of the same home can take it over with what it has loaded.
"""

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

from lastgood.serving.backends.connected import ConnectedReplica
from lastgood.serving.backends.docker_engine import Ending, EngineError
from lastgood.serving.backends.listener import Listener
from lastgood.serving.backends.replica import Launch, Owner, ReplicaFailedError
from lastgood.serving.replica import notices

if TYPE_CHECKING:
    from lastgood.serving.backends.docker_backend import Berth, DockerBackend

VERSION_FOLDER: Final = "/version"
_CALL_SECONDS: Final = 3.0  # in which a replica that was left behind calls again
_LOOK_SECONDS: Final = 0.25  # between two looks whether a container that has not called yet still runs
_DYING_SECONDS: Final = 2.0  # between the end of a connection and the end of its container


class DockerReplica(ConnectedReplica):
    """One container; start it once."""

    def __init__(self, launch: Launch, owner: Owner, backend: "DockerBackend", adopted: "Berth | None") -> None:
        """
        Prepare; nothing runs yet.

        Args:
            launch: What to start.
            owner: Who is told.
            backend: Where it runs.
            adopted: A running container to take over instead of starting one.
        """
        super().__init__(launch, owner)
        self.adopted = adopted is not None
        self._backend = backend
        self._berth = adopted or backend.new_berth(launch)
        self._starting: asyncio.Task[None] | None = None
        self._burial: asyncio.Task[None] | None = None
        self._pid: int | None = None

    @property
    def pid(self) -> int | None:
        """The replica's process id as seen from here, None before it called."""
        return self._pid

    async def _begin(self) -> None:
        try:
            listener = Listener(self._berth.make_folder(), self._backend.uid)
            try:
                if not self.adopted:
                    self._starting = asyncio.create_task(self._backend.run(self._launch, self._berth))
                    await asyncio.shield(self._starting)
                connection, self._pid = await self._await_call(listener)
            finally:
                listener.close()
            self._converse(connection, VERSION_FOLDER, None)  # the engine limits what it may use
        except (EngineError, OSError) as exc:
            self._stopping = True
            self._bury(0)
            raise ReplicaFailedError(f"The replica of {self.name} cannot be started: {exc}") from exc

    async def _await_call(self, listener: Listener) -> tuple[socket.socket, int]:
        end = self._loop.time() + _CALL_SECONDS
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    return await listener.accept()
            except TimeoutError:
                # A container that ends before it called announces nothing here.
                if not await self._backend.is_running(self._berth):
                    self._bury(0)
                    await self._exited.wait()
                    self._readiness.result()
                if self.adopted and self._loop.time() > end:
                    raise EngineError(f"the container that was left running did not call within {_CALL_SECONDS:g} s.") from None

    def _on_hang_up(self) -> None:
        self.ready = False
        self._bury(_DYING_SECONDS)

    async def _ask_to_end(self, grace_seconds: float) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.send(bytes([notices.END]))
        self._bury(grace_seconds)
        await self._exited.wait()

    def _end(self) -> None:
        self._bury(0)

    def _bury(self, seconds: float) -> None:
        """Give the container that long to end, then kill it; `_finish` follows."""
        if self._burial is None:
            self._burial = self._loop.create_task(self._wait_and_finish(seconds))

    async def _wait_and_finish(self, seconds: float) -> None:
        if self._starting is not None:
            # A start that is under way in a thread cannot be called off.
            with contextlib.suppress(EngineError):
                await self._starting
        try:
            ending = await self._backend.bury(self._berth, seconds)
        except EngineError as exc:
            ending = Ending(f"ended. {str(exc).rstrip('.')}")
        self._finish(ending.how, "", ending.tail)
