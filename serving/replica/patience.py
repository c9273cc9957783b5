"""
How long it pays to look for the next batch before going to sleep.

Waking a process that sleeps on an idle core costs both sides tens of microseconds, on a virtual machine up to a hundred: more than
many models compute. So a replica whose next batch tends to come soon looks for it a little longer, and one whose does not
sleeps at once. The rule is that of Linux's guest halt polling: what paid is doubled, what did not is halved.

Source: The Linux kernel documentation, "Guest halt polling".
"""

import os
import socket
import time
from typing import Final

from lastgood.serving.replica import notices

LONGEST_SECONDS: Final = 0.0003
_FIRST_SECONDS: Final = 0.00005


class Patience:
    """Receives messages of one connection; ``seconds`` is how long it looks before it sleeps."""

    __slots__ = ("_connection", "_longest", "seconds")

    def __init__(self, connection: socket.socket) -> None:
        """Begin without any: sleep at once."""
        self._connection = connection
        self._longest = LONGEST_SECONDS if len(os.sched_getaffinity(0)) > 1 else 0.0  # a lone core is needed by the other side
        self.seconds = 0.0

    def receive(self) -> bytes:
        """
        Give the next message, b"" at the end.

        Raises:
            ConnectionResetError: The other side is gone.
        """
        receive, flags = self._connection.recv, socket.MSG_DONTWAIT
        clock, give_way = time.perf_counter, os.sched_yield
        began = clock()
        looks_until = began + self.seconds
        while clock() < looks_until:
            try:
                return receive(notices.MESSAGE_BYTES, flags)
            except BlockingIOError:
                give_way()
        message = receive(notices.MESSAGE_BYTES)
        self._learn(clock() - began)
        return message

    def _learn(self, waited: float) -> None:
        """Look longer where that would have been enough, and shorter where not."""
        if waited <= self._longest:
            self.seconds = min(self._longest, max(2 * self.seconds, _FIRST_SECONDS))
        else:
            self.seconds = self.seconds / 2 if self.seconds > _FIRST_SECONDS else 0.0
