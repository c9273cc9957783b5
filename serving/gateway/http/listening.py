"""What a server listens on: a port of an address, a socket file, and TLS in front of the port."""

import errno
import os
import socket
import ssl
import stat
from pathlib import Path
from typing import Final

from lastgood.errors import ConfigurationError
from lastgood.ports import find_listener
from lastgood.serving.gateway.errors import OpenAddressError, PortTakenError, SocketFileTakenError
from lastgood.settings import is_loopback

BACKLOG: Final = 1024
_PROBE_SECONDS: Final = 1.0


def check_guarded(host: str, token: str | None) -> None:
    """
    Refuse to be reachable by everybody.

    Raises:
        OpenAddressError: The address is not loopback and there is no token.
    """
    if token is None and not is_loopback(host):
        raise OpenAddressError(f"{host} can be reached from other machines: set token_file, or listen on 127.0.0.1.")


def bind_port(host: str, port: int) -> socket.socket:
    """
    Give a socket that listens on an address of IPv4 or IPv6.

    Raises:
        PortTakenError: Another process listens there; names it where the system tells.
        ConfigurationError: The address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            found = find_listener(port)
            holder = "a process that has just ended" if found is None else found.name
            raise PortTakenError(
                f"Port {port} on {host} is taken by {holder}. Stop that, or choose another port (LASTGOOD_PORT_…)."
            ) from exc
        raise ConfigurationError(f"Cannot listen on {host}:{port}: {exc.strerror}. Expected an address of this machine.") from exc
    return listener


def accept_waiting(listener: socket.socket) -> list[socket.socket]:
    """Accept the connections that stand in a listener's line: closing it would reset them."""
    listener.setblocking(False)
    accepted: list[socket.socket] = []
    while True:
        try:
            connection, _ = listener.accept()
        except ConnectionAbortedError:  # it went while it stood in line
            continue
        except OSError:  # none is left, or there is no descriptor for another
            return accepted
        connection.setblocking(False)
        accepted.append(connection)


def check_port(host: str, port: int) -> None:
    """
    Look whether a port can be listened on now, for a server that opens its own.

    Raises:
        PortTakenError: Another process listens there; names it where the system tells.
        ConfigurationError: The address is none of this machine's.
    """
    bind_port(host, port).close()


def bind_socket_file(path: Path) -> tuple[socket.socket, int]:
    """
    Give a socket that listens on a file which only this user can open, and the file's inode.

    The file of a process that is gone is replaced. It appears under its name when it has its mode and is listened on.

    Raises:
        SocketFileTakenError: A process listens there, or the path is a file of another kind.
        ConfigurationError: The file cannot be made.
    """
    _check_free(path)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        new.unlink(missing_ok=True)
        listener.bind(str(new))
        new.chmod(0o600)
        listener.listen(BACKLOG)
        inode = new.stat().st_ino
        new.replace(path)
    except OSError as exc:
        listener.close()
        new.unlink(missing_ok=True)
        why = exc.strerror or exc
        raise ConfigurationError(
            f"Cannot listen on the socket file {path}: {why}. Expected a short path in a folder that this user can write to."
        ) from exc
    return listener, inode


def _check_free(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:  # not there, or out of reach, which making it will tell
        return
    if not stat.S_ISSOCK(mode):
        raise SocketFileTakenError(f"{path} is there and is no socket. Choose another unix_socket, or remove that file.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as exc:  # a full backlog is somebody's too
            raise SocketFileTakenError(
                f"The socket file {path} cannot be tried: {exc.strerror or exc}. Choose another unix_socket."
            ) from exc
    raise SocketFileTakenError(f"Another process listens on the socket file {path}. Stop that, or choose another unix_socket.")


def remove_socket_file(path: Path, inode: int) -> None:
    """Remove a socket file that one listened on, unless it is another's by now."""
    try:
        if path.lstat().st_ino == inode:
            path.unlink()
    except FileNotFoundError:
        return


def load_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """
    Give what a server speaks TLS with, 1.2 or later.

    Args:
        certificate: PEM file, the server's own certificate first, then those that lead to a known authority.
        key: PEM file with its private key, without a password.

    Raises:
        ConfigurationError: A file cannot be read or holds something else, or the key is another certificate's.
    """
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            path.read_bytes()
        except OSError as exc:
            raise ConfigurationError(f"{name} = {str(path)!r} cannot be read: {exc.strerror}. Expected a PEM file.") from exc
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password to give, OpenSSL would ask on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(f"The key in {key} is not the one of the certificate in {certificate}. Give the pair.") from exc
        raise ConfigurationError(
            f"TLS cannot be spoken with {certificate} and {key} ({exc.reason or 'not PEM, or the key has a password'}). "
            "Expected a PEM certificate and its PEM private key without a password."
        ) from exc
    return context
