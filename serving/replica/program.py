"""
The replica as a program: ``python -m lastgood.serving.replica FD`` or ``--connect PATH``.

It verifies, warms up and proves the version in a thread of the priority it is told, a low one where others serve meanwhile, so
that starting a version does not slow those, and then answers from the main thread. On Linux the priority belongs to the thread: no
permission is needed to serve at full priority afterwards.

With an inherited socket it ends with its gateway. One that called its gateway calls again, and gives the golden answers
again to the next one, with the bytes it verified when it loaded them.
"""

import contextlib
import json
import os
import select
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastgood.errors import LastgoodError
from lastgood.serving.replica import memory, notices
from lastgood.serving.replica.dial import PATIENCE_SECONDS, dial
from lastgood.serving.replica.heart import beating

if TYPE_CHECKING:
    from lastgood.serving.replica.model import Model
    from lastgood.serving.replica.package import Package

SPARE_NICENESS = 10
_MAX_FDS = 64
_USAGE = """usage: python -m lastgood.serving.replica FD
       python -m lastgood.serving.replica --connect PATH
FD is an inherited SEQPACKET socket, PATH one that a gateway listens on; the gateway starts this program.
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model, and what proves it."""

    model: "Model"
    package: "Package"  # without the bytes of the model, which is loaded


def main(make_model: "Callable[[Package], Model] | None" = None, argv: list[str] | None = None) -> int:
    """
    Serve one version to the process at the other end of a socket.

    Args:
        make_model: Makes the model of a verified package; default `Model.open`.
        argv: The descriptor of a SEQPACKET socket, or ``--connect`` and a path; default from the command line.

    Returns:
        Exit code: 0 when the gateway let go, else that of the error which was reported as REFUSED.
    """
    memory.step_forward()
    match sys.argv[1:] if argv is None else argv:
        case [descriptor] if descriptor.isdecimal():
            with socket.socket(fileno=int(descriptor)) as connection:
                if not select.select([connection], [], [], 0)[0]:
                    _import_ahead()
                return _talk(connection, make_model, None)[0] or 0
        case ["--connect", path]:
            return _serve_callers(path, make_model)
        case _:
            sys.stderr.write(_USAGE)
            return 2


def _import_ahead() -> None:
    """Import what serving needs, at low priority: nobody wants anything of this process yet."""

    def load() -> None:
        _lower_priority(SPARE_NICENESS)
        from lastgood.serving.replica import model, package, serve  # noqa: F401

    thread = threading.Thread(target=load, name="import")
    thread.start()
    thread.join()


def _lower_priority(niceness: int) -> None:
    """Set the calling thread's niceness, but never to less than it has: that takes a permission."""
    own = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, own, max(os.getpriority(os.PRIO_PROCESS, own), niceness))


def _serve_callers(path: str, make_model: "Callable[[Package], Model] | None") -> int:
    loaded = None
    while (connection := dial(path, PATIENCE_SECONDS)) is not None:
        with connection:
            code, loaded = _talk(connection, make_model, loaded)
        if code is not None:
            return code
    sys.stderr.write("no gateway listens any more; this replica ends\n")
    return 0


def _talk(
    connection: socket.socket, make_model: "Callable[[Package], Model] | None", loaded: Loaded | None
) -> tuple[int | None, Loaded | None]:
    """Serve one gateway; give the exit code, None where it just went away, and what is loaded by then."""
    # A gateway that is gone wants no answer: every send may find the connection closed.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        message, fds, _, _ = socket.recv_fds(connection, notices.MESSAGE_BYTES, _MAX_FDS)
        if not message:
            return None, loaded
        _enter_nowhere()
        preparation = _Preparation(make_model, json.loads(message[1:]), fds[0], loaded)
        preparation.start()
        preparation.join()
        loaded = preparation.loaded
        if loaded is None:
            connection.send(bytes([notices.REFUSED]) + json.dumps(preparation.refusal).encode())
            return preparation.exit_code, None

        from lastgood.serving.replica.serve import serve
        from lastgood.serving.replica.slots import Slot

        slots = [Slot(fd) for fd in fds[2:]]
        ready = {"report": preparation.report, "provider": loaded.model.provider}
        try:
            with beating(fds[1]):
                connection.send(bytes([notices.READY]) + json.dumps(ready).encode())
                if serve(connection, loaded.model, slots):
                    return 0, loaded
        finally:
            for slot in slots:
                slot.close()
    return None, loaded


def _enter_nowhere() -> None:
    """Work in a folder that is gone: tensor files that a model names but its content does not list are looked for here."""
    nowhere = Path(tempfile.mkdtemp(prefix="lastgood-replica-"))
    os.chdir(nowhere)
    nowhere.rmdir()


class _Preparation(threading.Thread):
    """Everything before the first answer; leaves a model, or the reason why there is none."""

    def __init__(
        self, make_model: "Callable[[Package], Model] | None", start: dict[str, Any], content_fd: int, loaded: Loaded | None
    ) -> None:
        super().__init__(name="prepare")
        self._make_model = make_model
        self._start = start
        self._content_fd = content_fd
        self._before = loaded
        self.loaded: Loaded | None = None
        self.report = ""
        self.refusal = {"code": "lastgood", "message": ""}
        self.exit_code = 1

    def run(self) -> None:
        _lower_priority(self._start["niceness"])
        try:
            self._prepare()
        except LastgoodError as exc:
            self.refusal = {"code": exc.code, "message": (self._tell_want(exc) or str(exc))[:4000]}
            self.exit_code = exc.exit_code
        except Exception as exc:  # noqa: BLE001  # a bug, or no memory: the gateway gets a sentence, the log the traceback
            if want := self._tell_want(exc):
                self.refusal = {"code": "lastgood", "message": want}
                return
            traceback.print_exc()
            self.refusal = {"code": "lastgood", "message": f"The replica broke while it got ready: {exc!r}."[:4000]}

    def _tell_want(self, exc: Exception) -> str | None:
        limit = self._start["memory_bytes"]
        if limit is None or not memory.ran_out(exc):
            return None
        return f"It needs more memory than its limit of {limit} bytes; set memory_bytes higher, in [serving] or for this model."

    def _prepare(self) -> None:
        if self._start["memory_bytes"] is not None:
            memory.limit_data(self._start["memory_bytes"])
        # Imported here so that the import, most of a replica's start, runs at low priority too.
        from lastgood.serving.replica.model import Model, prove
        from lastgood.serving.replica.package import read_package

        with os.fdopen(self._content_fd, "rb") as stream:
            stream.seek(0)
            content = stream.read()
        loaded = self._before
        if loaded is None or loaded.package.digest != self._start["digest"]:
            package = read_package(content, self._start["digest"], Path(self._start["folder"]))
            package = replace(package, threads=self._start["threads"], providers=tuple(self._start["providers"]))
            loaded = Loaded((self._make_model or Model.open)(package), replace(package, model=b"", beside={}))
        self.report = prove(loaded.model, loaded.package)
        self.loaded = loaded
