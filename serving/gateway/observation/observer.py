"""
The gateway's end of the observer: started, told what happens, and started again when it dies.

Nothing here waits. What the observer does not take in time is dropped and counted: requests are worth more than what is
known of them.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from lastgood.errors import IntegrityError
from lastgood.serving.backends.process import describe_status
from lastgood.serving.observer.wire import FRAME_BYTES, Frames, News, pack

log = structlog.get_logger()
PROGRAM: Final = (sys.executable, "-P", "-m", "lastgood.serving.observer")
WAITING_BYTES: Final = 16 << 20  # frames that wait for an observer that is busy
_READ_BYTES: Final = 1 << 18
_RESPAWN_SECONDS: Final = 0.2
_LONGEST_DELAY_SECONDS: Final = 10.0
_SETTLED_SECONDS: Final = 30.0  # one that lived this long did not die of its start
_END_SECONDS: Final = 10.0


class ObserverProcess:
    """One observer at a time; belongs to one event loop."""

    def __init__(
        self, home: Path, project: Path, *, on_news: Callable[[News], None], introduce: Callable[[], Iterable[msgspec.Struct]]
    ) -> None:
        """
        Prepare; `start` starts.

        Args:
            home: Where logs lie.
            project: Where functions that redact are found.
            on_news: Called with what the observer found.
            introduce: Gives what an observer must be told first: once at the start, and again whenever one takes another's place.
        """
        self._arguments = (str(home), str(project))
        self._on_news = on_news
        self._introduce = introduce
        self._decoder = msgspec.msgpack.Decoder(News)
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._sent = 0  # of the first frame that waits
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._exited = asyncio.Event()
        self._respawn: asyncio.TimerHandle | None = None
        self._deaths = 0
        self._began = 0.0
        self._closed = False
        self._program: Sequence[str] = PROGRAM

    @property
    def up(self) -> bool:
        """Whether an observer runs."""
        return self._socket is not None

    @property
    def pid(self) -> int | None:
        """The process, None while there is none."""
        return self._process.pid if self._process is not None and self.up else None

    @property
    def room(self) -> int:
        """Bytes that may still wait; frames beyond are to be dropped."""
        return WAITING_BYTES - self._waiting_bytes if self.up else 0

    def start(self) -> None:
        """Start an observer; where that fails, it is tried again."""
        self._respawn = None
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [*self._program, str(theirs.fileno()), *self._arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as exc:
                ours.close()
                log.warning("the observer cannot be started", why=str(exc))
                self._try_again()
                return
        self._socket, self._began = ours, loop.time()
        self._exited.clear()
        self._pidfd = os.pidfd_open(self._process.pid)
        loop.add_reader(self._pidfd, self._reap)
        loop.add_reader(ours, self._read, Frames())
        self._waiting.clear()
        self._waiting_bytes = self._sent = 0
        for message in self._introduce():
            self.tell(message)

    def tell(self, message: msgspec.Struct) -> bool:
        """Send a message now or soon; say whether there was room for it."""
        if self._socket is None:
            return False
        frame = pack(message)
        # One may be larger than what may wait: a model whose answers are would never be seen.
        if len(frame) > FRAME_BYTES or (self._waiting and self._waiting_bytes + len(frame) > WAITING_BYTES):
            return False
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        if len(self._waiting) == 1:
            self._write()
        return True

    def _write(self) -> None:
        own = self._socket
        if own is None:
            return
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                frame = self._waiting[0]
                self._sent += own.send(memoryview(frame)[self._sent :])
                if self._sent < len(frame):
                    continue
                self._waiting.popleft()
                self._waiting_bytes -= len(frame)
                self._sent = 0
        except BlockingIOError:
            loop.add_writer(own, self._write)
        except OSError:  # it died: `_reap` is told
            self._hang_up()
        else:
            loop.remove_writer(own)

    def _read(self, frames: Frames) -> None:
        own = self._socket
        if own is None:
            return
        try:
            data = own.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        try:
            for frame in frames.feed(data):
                self._on_news(self._decoder.decode(frame))
        except (msgspec.DecodeError, IntegrityError) as exc:
            log.warning("the observer is broken and was ended", why=str(exc))
            self._hang_up()
            self._kill()

    def _hang_up(self) -> None:
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None

    def _kill(self) -> None:
        if self._pidfd >= 0 and self._process is not None:
            self._process.kill()

    def _reap(self) -> None:
        assert self._process is not None  # noqa: S101 - the pidfd is of this child
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        status = self._process.wait()
        self._hang_up()
        self._exited.set()
        if not self._closed:
            log.warning("the observer ended; another one takes its place", why=describe_status(status))
            self._try_again()

    def _try_again(self) -> None:
        loop = asyncio.get_running_loop()
        self._deaths = 0 if loop.time() - self._began > _SETTLED_SECONDS else self._deaths + 1
        delay = min(_LONGEST_DELAY_SECONDS, _RESPAWN_SECONDS * 2.0 ** min(self._deaths, 10))
        self._respawn = loop.call_later(delay, self.start)

    async def close(self) -> None:
        """Let it write what it holds, and end."""
        self._closed = True
        if self._respawn is not None:
            self._respawn.cancel()
        if self._process is None or self._pidfd < 0:
            self._hang_up()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                while self._waiting and self._socket is not None:
                    self._write()
                    await asyncio.sleep(0)
                if self._socket is not None:
                    self._socket.shutdown(socket.SHUT_WR)
                await self._exited.wait()
                return
        self._kill()
        await self._exited.wait()
