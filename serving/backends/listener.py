"""A socket file on which exactly one call is taken, and only from the right account."""

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()
FILE: Final = "gateway.sock"
_CREDENTIALS: Final = struct.Struct("3i")  # process, user, group: struct ucred


class Listener:
    """Listens in a folder until closed; nobody else's process can call, and no second one."""

    def __init__(self, folder: Path, uid: int) -> None:
        """
        Listen.

        Args:
            folder: Where the socket file is made; one that an earlier gateway left is replaced.
            uid: The account whose process may call.

        Raises:
            OSError: The folder cannot be written.
        """
        self._path = folder / FILE
        self._uid = uid
        self._loop = asyncio.get_running_loop()
        self._path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            # A path of over 107 bytes cannot be bound; through the folder's descriptor it is short however deep the folder lies.
            descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
            try:
                self._socket.bind(f"/proc/self/fd/{descriptor}/{FILE}")
            finally:
                os.close(descriptor)
            self._path.chmod(0o600)
            if os.geteuid() != uid:
                os.chown(self._path, uid, uid)
            self._socket.listen(4)
        except OSError:
            self._socket.close()
            raise

    async def accept(self) -> tuple[socket.socket, int]:
        """Give the connection of the first caller with the right account, and its process id as seen from here."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                await self._wait()
                continue
            pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
            if uid == self._uid:
                return connection, pid
            log.warning("a process of another account called and was turned away", uid=uid, pid=pid)
            connection.close()

    async def _wait(self) -> None:
        called: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._socket.fileno(), _tell, called)
        try:
            await called
        finally:
            self._loop.remove_reader(self._socket.fileno())

    def close(self) -> None:
        """Listen no more; a connection that was given stays."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


def _tell(called: asyncio.Future[None]) -> None:
    if not called.done():
        called.set_result(None)
