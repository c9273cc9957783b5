"""
The replica as a program: ``python -m lastgood.serving.replica FD``.

It verifies, warms up and proves the version in a thread of low priority, so that starting a version does not slow
the ones that serve, and then answers from the main thread. On Linux the priority belongs to the thread: no
permission is needed to serve at full priority afterwards.
"""

import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lastgood.errors import LastgoodError
from lastgood.serving.replica import notices

if TYPE_CHECKING:
    from lastgood.serving.replica.model import Model
    from lastgood.serving.replica.package import Package

PREPARING_NICENESS = 10
_MAX_FDS = 64


def main(make_model: "Callable[[Package], Model] | None" = None, argv: list[str] | None = None) -> int:
    """
    Serve one version to the process at the other end of the inherited socket.

    Args:
        make_model: Makes the model of a verified package; default `Model.open`.
        argv: The descriptor of a SEQPACKET socket; default from the command line.

    Returns:
        Exit code: 0 when the gateway let go, else that of the error which was reported as REFUSED.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or not arguments[0].isdecimal():
        sys.stderr.write("usage: python -m lastgood.serving.replica FD\nFD is a SEQPACKET socket; the gateway starts this program.\n")
        return 2
    # A gateway that is gone wants no answer: every send may find the connection closed.
    with socket.socket(fileno=int(arguments[0])) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        message, fds, _, _ = socket.recv_fds(connection, notices.MESSAGE_BYTES, _MAX_FDS)
        if not message:
            return 0
        _enter_nowhere()
        preparation = _Preparation(make_model, json.loads(message[1:]), fds[0])
        preparation.start()
        preparation.join()
        if preparation.model is None:
            connection.send(bytes([notices.REFUSED]) + json.dumps(preparation.refusal).encode())
            return preparation.exit_code

        from lastgood.serving.replica.serve import serve
        from lastgood.serving.replica.slots import Slot

        slots = [Slot(fd) for fd in fds[1:]]
        connection.send(bytes([notices.READY]) + preparation.report.encode())
        serve(connection, preparation.model, slots)
        for slot in slots:
            slot.close()
    return 0


def _enter_nowhere() -> None:
    """Work in a folder that is gone: tensor files that a model names but its content does not list are looked for here."""
    nowhere = Path(tempfile.mkdtemp(prefix="lastgood-replica-"))
    os.chdir(nowhere)
    nowhere.rmdir()


class _Preparation(threading.Thread):
    """Everything before the first answer; leaves a model, or the reason why there is none."""

    def __init__(self, make_model: "Callable[[Package], Model] | None", start: dict[str, str], content_fd: int) -> None:
        super().__init__(name="prepare")
        self._make_model = make_model
        self._start = start
        self._content_fd = content_fd
        self.model: Model | None = None
        self.report = ""
        self.refusal = {"code": "lastgood", "message": ""}
        self.exit_code = 1

    def run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PREPARING_NICENESS)
        try:
            self._prepare()
        except LastgoodError as exc:
            self.refusal = {"code": exc.code, "message": str(exc)[:4000]}
            self.exit_code = exc.exit_code
        except Exception as exc:  # noqa: BLE001  # a bug: the gateway gets a sentence, the log the traceback
            traceback.print_exc()
            self.refusal = {"code": "lastgood", "message": f"The replica broke while it got ready: {exc!r}."[:4000]}

    def _prepare(self) -> None:
        # Imported here so that the import, most of a replica's start, runs at low priority too.
        from lastgood.serving.replica.model import Model, prove
        from lastgood.serving.replica.package import read_package

        with os.fdopen(self._content_fd, "rb") as stream:
            stream.seek(0)
            content = stream.read()
        package = read_package(content, self._start["digest"], Path(self._start["folder"]))
        model = (self._make_model or Model.open)(package)
        self.report = prove(model, package)
        self.model = model
