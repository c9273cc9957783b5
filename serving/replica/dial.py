"""How a replica in a container reaches its gateway: it calls, and calls again for a while when nobody answers."""

import socket
import time
from typing import Final

PATIENCE_SECONDS: Final = 60.0  # in which a gateway that was killed should be up again
_POLL_SECONDS: Final = 0.05


def dial(path: str, seconds: float) -> socket.socket | None:
    """
    Connect to the gateway's SEQPACKET socket; give None when nobody listens there for that long.

    Args:
        path: The socket file; a gateway that is started again makes it anew.
        seconds: How long to try.
    """
    deadline = time.monotonic() + seconds
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
        else:
            return connection
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL_SECONDS)  # a file that appears on a mount announces nothing
