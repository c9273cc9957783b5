"""
The gateway's side of a replica, whatever it runs in: one SEQPACKET connection, the slots, and what is read from it.

How the other side is started, watched and ended is a subclass's business.
"""

import asyncio
import json
import os
import socket
import struct
from abc import ABC, abstractmethod
from typing import Final

from lastgood.serving.backends.replica import Launch, Owner, ReplicaFailedError, ReplicaStoppedError
from lastgood.serving.backends.states import is_stopped
from lastgood.serving.replica import notices
from lastgood.serving.replica.heart import make_heart, read_beats
from lastgood.serving.replica.slots import Slot

_PREPARING_NICENESS: Final = 10  # while others answer for the version, or for the model
_LOOK_SECONDS: Final = 0.1  # between two looks at one that is starting
_STOPPED_LOOKS: Final = 3  # in a row: longer than a debugger or a container engine stops a process in passing
_LAST_SECONDS: Final = 0.5  # between the end of a replica's connection and its own


class ConnectedReplica(ABC):
    """A replica as seen from the gateway; start it once."""

    def __init__(self, launch: Launch, owner: Owner) -> None:
        """Prepare; nothing runs yet."""
        self.name = launch.name
        self.slots: list[Slot] = []
        self.ready = False  # verified, proven, and not known to be broken
        self.ready_at = 0.0  # loop time
        self.report = ""
        self.provider = ""
        self.adopted = False  # taken over from an earlier gateway, not started
        self._launch = launch
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._readiness: asyncio.Future[None] = self._loop.create_future()
        self._exited = asyncio.Event()
        self._socket: socket.socket | None = None
        self._owed = 0  # answers to batches that were handed over
        self._heart = -1
        self._stopping = False
        self._cause: str | None = None  # why it was killed, where that was our doing

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The replica's process id as seen from here, None before it runs."""

    @abstractmethod
    async def _begin(self) -> None:
        """Start the other side and `_converse` with it; when that fails, clean up, and raise ReplicaFailedError."""

    @abstractmethod
    def _end(self) -> None:
        """Kill the other side; `_finish` follows."""

    @abstractmethod
    async def _ask_to_end(self, grace_seconds: float) -> None:
        """Let the other side end by itself; back when `_finish` was called, or when the grace is over."""

    def _on_hang_up(self) -> None:
        """Take note that the other side closed the connection; it should end by itself now."""
        if self.ready:
            self._lose("closed its connection and went on running")

    async def start(self, timeout_seconds: float) -> None:
        """
        Start the other side and wait until it is ready.

        Raises:
            ReplicaFailedError: It refused, died, or was not ready in time; with its sentence.
            ReplicaStoppedError: It was stopped from outside meanwhile; found out long before the time is up.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._begin()
                await self._await_readiness()
        except TimeoutError:
            await self._abort()
            raise ReplicaFailedError(
                f"The replica of {self.name} was not ready after {timeout_seconds:g} s and was stopped. "
                "A larger model needs a longer time-out."
            ) from None
        except ReplicaFailedError:
            await self._exited.wait()
            raise
        except asyncio.CancelledError:
            await self._abort()
            raise

    async def _await_readiness(self) -> None:
        looks = 0
        while not (await asyncio.wait([self._readiness], timeout=_LOOK_SECONDS))[0]:
            looks = looks + 1 if is_stopped(self.pid) else 0
            if looks == _STOPPED_LOOKS:
                await self._abort()
                raise ReplicaStoppedError(f"The replica of {self.name} was stopped while it started (SIGSTOP), and was ended.")
        self._readiness.result()

    def _converse(self, connection: socket.socket, folder: str, memory_bytes: int | None) -> None:
        """
        Make the slots, send START, and read from now on.

        Args:
            connection: A connected SEQPACKET socket; it belongs to this object from now on.
            folder: Where the other side finds the version's files.
            memory_bytes: What it is to limit itself to.

        Raises:
            OSError: There is no memory or descriptor left, or nobody at the other end.
        """
        launch = self._launch
        start = {
            "digest": launch.digest,
            "folder": folder,
            "threads": launch.threads,
            "providers": launch.providers,
            "memory_bytes": memory_bytes,
            "niceness": 0 if launch.urgent else _PREPARING_NICENESS,
        }
        content = os.memfd_create("lastgood-content", os.MFD_CLOEXEC)
        try:
            os.write(content, launch.content)
            self._heart = make_heart()
            for _ in range(launch.slots):
                self.slots.append(Slot.create(launch.slot_bytes))
            fds = [content, self._heart, *(slot.fd for slot in self.slots)]
            socket.send_fds(connection, [bytes([notices.START]) + json.dumps(start).encode()], fds)
        except OSError:
            connection.close()
            self._close_memory()
            raise
        finally:
            os.close(content)
        self._socket = connection
        connection.setblocking(False)
        self._loop.add_reader(connection.fileno(), self._read)

    def beats(self) -> int | None:
        """Give how often its heart has beaten; None where nobody can tell."""
        return read_beats(self._heart) if self._heart >= 0 else None

    def run(self, slot: int, number: int, used: int) -> None:
        """Hand a slot over; a replica that cannot be told is killed, and `Owner.on_exit` follows."""
        if self._socket is None:
            return
        try:
            self._socket.send(notices.pack_run(slot, number, used))
            self._owed += 1
        except OSError as exc:
            self._lose(f"could not be told to run a batch ({exc.strerror})")

    def kill(self, why: str) -> None:
        """End a replica that is broken; ``why`` becomes part of the sentence given to `Owner.on_exit`."""
        self.ready = False
        self._cause = self._cause or why
        self._end()

    def _lose(self, why: str) -> None:
        """Let a replica that cannot be talked to end by itself, so that its status can say why; kill it if it does not."""
        self.ready = False
        self._loop.call_later(_LAST_SECONDS, self.kill, why)

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Let the replica end, kill it after the grace; back when it is gone."""
        self._stopping = True
        self.ready = False
        await self._ask_to_end(grace_seconds)
        if not self._exited.is_set():
            await self._abort()

    async def _abort(self) -> None:
        self._stopping = True
        self._end()
        await self._exited.wait()
        if self._readiness.done() and not self._readiness.cancelled():
            self._readiness.exception()  # seen: nobody else will ask

    def _read(self) -> None:
        while self._socket is not None:
            try:
                message = self._socket.recv(notices.MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._hang_up()
                self._on_hang_up()
                return
            try:
                self._take(message)
            except (struct.error, ValueError, LookupError, TypeError) as exc:
                self.kill(f"sent a message that is none ({exc})")
            if self._owed == 0 and self.ready:
                return  # nothing is to come; should there be something, the loop calls again

    def _take(self, message: bytes) -> None:
        kind = message[0]
        if kind == notices.DONE:
            _, _, number, used, seconds, flagged = notices.unpack(message)
            self._owed -= 1
            self._owner.on_done(self, number, used, seconds, flagged=flagged)
        elif kind == notices.FAILED:
            _, number, text = notices.unpack_failed(message)
            self._owed -= 1
            self._owner.on_failed(self, number, text)
        elif kind == notices.READY and not self._readiness.done():
            said = json.loads(message[1:])
            self.report, self.provider = str(said["report"]), str(said["provider"])
            self.ready = True
            self.ready_at = self._loop.time()
            self._readiness.set_result(None)
        elif kind == notices.REFUSED and not self._readiness.done():
            refusal = json.loads(message[1:])
            self._readiness.set_exception(
                ReplicaFailedError(f"The replica of {self.name} is not ready: {refusal['message']}", refusal["code"])
            )
        else:
            raise ValueError(f"kind {kind}")

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _finish(self, how: str, hint: str, tail: str = "") -> None:
        """
        Take note that the other side is gone, once: tell the owner if nobody asked for it.

        Args:
            how: How it ended: "was killed by SIGKILL".
            hint: A sentence on where to look if it was not ready yet.
            tail: The last lines it wrote, where they are not in the gateway's own log.
        """
        was_ready = self._readiness.done() and not self._readiness.cancelled() and self._readiness.exception() is None
        self.ready = False
        self._read()  # what it finished before it died counts
        self._hang_up()
        why = f"The replica of {self.name} {self._cause or how}." + (f" Its last lines: {tail.rstrip('.')}." if tail else "")
        self._exited.set()
        if not self._readiness.done():
            self._readiness.set_exception(ReplicaFailedError(f"{why} It was not ready yet{f'; {hint}' if hint else ''}."))
            self._readiness.exception()  # seen, also where nobody waits any more
        if was_ready and not self._stopping:
            self._owner.on_exit(self, why)
        self._close_memory()

    def _close_memory(self) -> None:
        for slot in self.slots:
            slot.close()
        if self._heart >= 0:
            os.close(self._heart)
            self._heart = -1
