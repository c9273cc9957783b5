"""TCP ports of this machine: who listens on one, and which are free."""

import socket
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Listener:
    """A process that listens; its id is None where the system does not tell."""

    pid: int | None
    name: str  # for a sentence


def find_listener(port: int) -> Listener | None:
    """Give who listens on a port, None if nobody does."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:  # macOS tells only the superuser
        return None
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return _describe(connection.pid)
    return None


def _describe(pid: int | None) -> Listener:
    if pid is None:
        return Listener(None, "a process that the system does not name")
    try:
        return Listener(pid, f"{psutil.Process(pid).name()} (process {pid})")
    except psutil.NoSuchProcess:
        return Listener(None, "a process that has just ended")


def free_ports(count: int) -> list[int]:
    """Give ports of loopback that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for own in sockets:
            own.bind(("127.0.0.1", 0))
        return [own.getsockname()[1] for own in sockets]
    finally:
        for own in sockets:
            own.close()
