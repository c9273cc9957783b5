"""
Replicas as child processes.

The gateway keeps one end of a SEQPACKET socket and maps the slots; the child inherits the other end. A pidfd tells
the event loop when the child ended, so that it is reaped at once and nothing waits in a thread.
"""

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from lastgood.errors import UnavailableError
from lastgood.serving.replica import notices
from lastgood.serving.replica.slots import SLOT_BYTES, Slot

# -P: the folder the gateway runs in must not shadow what the replica imports.
PROGRAM: Final = (sys.executable, "-P", "-m", "lastgood.serving.replica")

_LAST_SECONDS: Final = 0.5  # between the end of a replica's connection and its own


class ReplicaFailedError(UnavailableError):
    """A replica did not become ready; ``reason`` is the code of the error it gave, if it gave one."""

    code = "serving.replica-not-ready"

    def __init__(self, message: str, reason: str | None = None) -> None:
        """Keep the replica's own code beside the sentence."""
        super().__init__(message)
        self.reason = reason


class Owner(Protocol):
    """Who is told what a replica says; called from the event loop."""

    def on_done(self, replica: "ReplicaProcess", number: int, used: int, seconds: float, *, flagged: bool) -> None:
        """Take the answer of batch ``number`` out of its slot."""
        ...

    def on_failed(self, replica: "ReplicaProcess", number: int, text: str) -> None:
        """Take note that the model raised on batch ``number``."""
        ...

    def on_exit(self, replica: "ReplicaProcess", why: str) -> None:
        """Take note that a ready replica ended without being told to."""
        ...


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start: a name for messages, the version's bytes, and the program as an argument list."""

    name: str
    digest: str
    content: bytes
    folder: Path
    program: Sequence[str] = PROGRAM
    slots: int = 2
    slot_bytes: int = SLOT_BYTES


class ReplicaProcess:
    """One child process; start it once."""

    def __init__(self, launch: Launch, owner: Owner) -> None:
        """Prepare; nothing runs yet."""
        self.name = launch.name
        self.slots: list[Slot] = []
        self.ready = False  # verified, proven, and not known to be broken
        self.ready_at = 0.0  # loop time
        self.report = ""
        self._launch = launch
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._readiness: asyncio.Future[None] = self._loop.create_future()
        self._exited = asyncio.Event()
        self._socket: socket.socket | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._stopping = False
        self._cause: str | None = None  # why it was killed, where that was our doing

    @property
    def pid(self) -> int | None:
        """The child's process id, None before the start."""
        return self._popen.pid if self._popen else None

    async def start(self, timeout_seconds: float) -> None:
        """
        Start the child and wait until it is ready.

        Raises:
            ReplicaFailedError: It refused, died, or was not ready in time; with its sentence.
        """
        self._spawn()
        try:
            async with asyncio.timeout(timeout_seconds):
                await asyncio.shield(self._readiness)
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

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        content = os.memfd_create("lastgood-content", os.MFD_CLOEXEC)
        with theirs:
            try:
                self.slots = [Slot.create(self._launch.slot_bytes) for _ in range(self._launch.slots)]
                os.write(content, self._launch.content)
                start = {"digest": self._launch.digest, "folder": str(self._launch.folder.resolve())}
                socket.send_fds(ours, [bytes([notices.START]) + json.dumps(start).encode()], [content, *(slot.fd for slot in self.slots)])
                self._popen = subprocess.Popen(
                    [*self._launch.program, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C at a terminal is for the gateway, which drains first
                )
            except OSError as exc:
                ours.close()
                self._close_slots()
                raise ReplicaFailedError(f"The replica of {self.name} cannot be started: {exc}.") from exc
            finally:
                os.close(content)
        self._socket = ours
        ours.setblocking(False)
        self._pidfd = os.pidfd_open(self._popen.pid)
        self._loop.add_reader(ours.fileno(), self._read)
        self._loop.add_reader(self._pidfd, self._reap)

    def run(self, slot: int, number: int, used: int) -> None:
        """Hand a slot over; a replica that cannot be told is killed, and `Owner.on_exit` follows."""
        if self._socket is None:
            return
        try:
            self._socket.send(notices.pack_run(slot, number, used))
        except OSError as exc:
            self._lose(f"could not be told to run a batch ({exc.strerror})")

    def kill(self, why: str) -> None:
        """End a replica that is broken; ``why`` becomes part of the sentence given to `Owner.on_exit`."""
        self.ready = False
        self._cause = self._cause or why
        self._signal(signal.SIGKILL)

    def _lose(self, why: str) -> None:
        """Let a replica that cannot be talked to end by itself, so that its status can say why; kill it if it does not."""
        self.ready = False
        self._loop.call_later(_LAST_SECONDS, self.kill, why)

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """End the child: SIGTERM, then SIGKILL after the grace; back when it is reaped."""
        self._stopping = True
        self.ready = False
        if self._popen is None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_seconds):
                await self._exited.wait()
        except TimeoutError:
            await self._abort()

    async def _abort(self) -> None:
        self._stopping = True
        self._signal(signal.SIGKILL)
        await self._exited.wait()
        if self._readiness.done() and not self._readiness.cancelled():
            self._readiness.exception()  # seen: nobody else will ask

    def _signal(self, number: int) -> None:
        # Until `_reap` closed the pidfd the child is unreaped, so the number cannot belong to another process.
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, number)

    def _read(self) -> None:
        while self._socket is not None:
            try:
                message = self._socket.recv(notices.MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._loop.remove_reader(self._socket.fileno())
                self._socket.close()
                self._socket = None
                if self.ready:
                    self._lose("closed its connection and went on running")
                return
            try:
                self._take(message)
            except (struct.error, ValueError) as exc:
                self.kill(f"sent a message that is none ({exc})")

    def _take(self, message: bytes) -> None:
        kind = message[0]
        if kind == notices.DONE:
            _, _, number, used, seconds, flagged = notices.unpack(message)
            self._owner.on_done(self, number, used, seconds, flagged=flagged)
        elif kind == notices.FAILED:
            _, number, text = notices.unpack_failed(message)
            self._owner.on_failed(self, number, text)
        elif kind == notices.READY and not self._readiness.done():
            self.report = message[1:].decode("utf-8", "replace")
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

    def _reap(self) -> None:
        assert self._popen is not None  # noqa: S101  # the pidfd is of this child
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        was_ready = self._readiness.done() and not self._readiness.cancelled() and self._readiness.exception() is None
        self.ready = False
        status = self._popen.wait()  # it has ended: this does not wait
        self._read()  # what it finished before it died counts
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        why = f"The replica of {self.name} {self._cause or describe_status(status)}."
        self._exited.set()
        if not self._readiness.done():
            self._readiness.set_exception(ReplicaFailedError(f"{why} It was not ready yet; its standard error says more."))
        if was_ready and not self._stopping:
            self._owner.on_exit(self, why)
        self._close_slots()

    def _close_slots(self) -> None:
        for slot in self.slots:
            slot.close()


def describe_status(status: int) -> str:
    """Say how a process ended, from `subprocess.Popen.returncode`."""
    if status < 0:
        try:
            return f"was killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"was killed by signal {-status}"
    return f"exited with status {status}"
