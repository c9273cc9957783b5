"""
A replica's process that has imported everything and waits to be told its version.

Most of a replica's start is the import of numpy and ONNX Runtime. A spare did that beforehand, at low priority, so that a replica that
died is replaced in the time its model takes to load. It is a fresh process of its own program, no copy of another's memory, and it
verifies, warms up and proves a version as any replica does: nothing of a version is in it before. One for each gateway.
"""

import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from lastgood.serving.backends.states import STOPPED, read_states


@dataclass(frozen=True, slots=True)
class Child:
    """A program that was started, and our end of its socket."""

    program: tuple[str, ...]
    popen: subprocess.Popen[bytes]
    connection: socket.socket

    @classmethod
    def start(cls, program: Sequence[str]) -> "Child":
        """
        Start a replica's program; it waits for START, with its imports done if that does not come at once.

        Raises:
            OSError: It cannot be started.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                popen = subprocess.Popen(
                    [*program, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C at a terminal is for the gateway, which drains first
                )
            except OSError:
                ours.close()
                raise
        return cls(tuple(program), popen, ours)

    def end(self) -> None:
        """Kill it, and be back when it is gone."""
        self.connection.close()
        self.popen.kill()
        self.popen.wait()


class Spare:
    """One child in reserve, of the program that was asked for last; or none."""

    def __init__(self, *, keep: bool) -> None:
        """Begin without one; without ``keep`` there never is one."""
        self._keep = keep
        self._child: Child | None = None

    def take(self, program: Sequence[str]) -> Child | None:
        """
        Give the child away if it is of that program and can run; it is the caller's from now on.

        One that has ended, or that is stopped, is put away: whoever waits for a replica is faster with a fresh process.
        """
        child = self._child
        if child is None or child.program != tuple(program):
            return None
        self._child = None
        if child.popen.poll() is None and not STOPPED & read_states(child.popen.pid):
            return child
        child.end()
        return None

    def refill(self, program: Sequence[str]) -> None:
        """
        Have a child of that program in reserve.

        Raises:
            OSError: It cannot be started.
        """
        if not self._keep or (self._child is not None and self._child.program == tuple(program)):
            return
        self.close()
        self._child = Child.start(program)

    def close(self) -> None:
        """End the child there is."""
        if self._child is not None:
            self._child.end()
            self._child = None
