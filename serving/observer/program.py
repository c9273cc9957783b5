"""
The observer as a program: ``python -m lastgood.serving.observer FD HOME PROJECT``; the gateway starts it.

It ends with its gateway, after it has written what it holds.
"""

import importlib
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import structlog

from lastgood.errors import LastgoodError
from lastgood.monitoring.predictions.join import REMEMBERED
from lastgood.monitoring.predictions.redact import Redact
from lastgood.monitoring.predictions.settings import read_predictions
from lastgood.serving.allocator import return_large
from lastgood.serving.logs import configure_logging
from lastgood.serving.observer.desk import Desk
from lastgood.serving.observer.drift import DriftDesk
from lastgood.serving.observer.wire import Asked, Counted, Drifted, Forgotten, Frames, Labelled, News, Profiled, ToObserver, Watched, pack

log = structlog.get_logger()
NICENESS: Final = 5  # requests come first
_READ_BYTES: Final = 1 << 20
_LOOK_SECONDS: Final = 0.02  # rows wait this long to be compared together
_IDLE_SECONDS: Final = 0.1  # to look again where nothing comes
_WORK_SECONDS: Final = 1.0
_SAVE_SECONDS: Final = 10.0
_LEAST_REMEMBERED: Final = 2_000  # requests of one model


class Observer:
    """Reads what the gateway sends until it closes the connection."""

    def __init__(self, connection: socket.socket, home: Path, project: Path) -> None:
        """
        Prepare.

        Args:
            connection: To the gateway.
            home: Where logs lie.
            project: Where functions that redact are found.
        """
        self._connection = connection
        self._home = home
        self._project = project
        self._desks: dict[str, Desk] = {}
        self._drifts: dict[str, DriftDesk] = {}
        self._found: list[Counted] = []
        self._drifted: list[Drifted] = []
        self._look_due = self._work_due = self._save_due = time.monotonic()
        self._decoder = msgspec.msgpack.Decoder(ToObserver)

    def run(self) -> None:
        """Observe; return when the gateway is gone and everything is written."""
        frames = Frames()
        while True:
            ready, _, _ = select.select([self._connection], [], [], _IDLE_SECONDS)
            if ready:
                data = self._connection.recv(_READ_BYTES)
                if not data:
                    break
                for frame in frames.feed(data):
                    self.take(self._decoder.decode(frame))
            self._work()
            self._tell()
        for desk in self._desks.values():
            desk.work(time.time(), everything=True)
        for model, drift in self._drifts.items():
            drift.work()
            self._save(model)

    def _work(self) -> None:
        now = time.monotonic()
        if now >= self._look_due:
            self._look_due = now + _LOOK_SECONDS
            for drift in self._drifts.values():
                self._drifted += drift.work()
        if now >= self._work_due:
            self._work_due = now + _WORK_SECONDS
            for desk in self._desks.values():
                self._found += desk.work(time.time())
        if now >= self._save_due:
            self._save_due = now + _SAVE_SECONDS
            for model in self._drifts:
                self._save(model)

    def _save(self, model: str) -> None:
        try:
            self._drifts[model].save()
        except OSError as exc:  # the disk is full: it is tried again, and said by an alert of its own
            log.warning("drift", model=model, problem=f"monitors cannot be kept: {exc}")

    def take(self, message: ToObserver) -> None:
        """Do what a message is for."""
        match message:
            case Watched():
                self._watch(message)
            case Profiled():
                if message.model in self._drifts:
                    self._drifts[message.model].watch(message.version, message.profile)
            case Forgotten():
                if message.model in self._drifts:
                    self._drifts[message.model].forget(message.version)
            case Asked():
                self._desks[message.model].take_batch(message)
                if message.model in self._drifts:
                    self._drifts[message.model].take_batch(message)
            case Labelled():
                self._desks[message.model].take_labels(message)

    def _watch(self, message: Watched) -> None:
        settings = read_predictions(message.settings, model=message.model, source="the gateway")
        redact, problem = None, ""
        if settings.redact is not None:
            try:
                redact = load_redaction(self._project, settings.redact)
            except Exception as exc:  # noqa: BLE001 - the project's own code: whatever it raises when it is imported
                # Never unredacted: without the function nothing is written.
                problem = f"nothing is written, for {settings.redact} cannot be loaded: {exc!r}"
                log.warning("predictions", model=message.model, problem=problem)
        before = self._desks.pop(message.model, None)
        if before is not None:
            self._found += before.work(time.time(), everything=True)
        if (how := settings.how_drift) is not None:
            self._drifts[message.model] = DriftDesk(message.model, how, self._home / "gateway" / "drift")
        self._desks[message.model] = Desk(message.model, settings, self._home, redact=redact, problem=problem)
        for desk in self._desks.values():  # the memory is shared by all models
            desk.remember(max(_LEAST_REMEMBERED, REMEMBERED // len(self._desks)))

    def _tell(self) -> None:
        news = News(counted=self._found, drifted=self._drifted)
        self._found, self._drifted = [], []
        for desk in self._desks.values():
            counted, paired, kept = desk.take_counts()
            news.counted += counted
            news.paired += paired
            news.kept += kept
        if news.counted or news.paired or news.drifted or news.kept:
            self._connection.sendall(pack(news))


def load_redaction(project: Path, name: str) -> Redact:
    """
    Import "module:function" from the project's folder.

    Raises:
        LastgoodError: There is no such function, or importing the module would end the process.
        Exception: Whatever else importing it raises.
    """
    module_name, _, function_name = name.partition(":")
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    try:
        module = importlib.import_module(module_name)
    except SystemExit as exc:  # the project's code does not end the observer
        raise LastgoodError(f"{module_name} raised {exc!r} when it was imported.") from exc
    function: Any = getattr(module, function_name, None)
    if not callable(function):
        raise LastgoodError(f"{module_name} has no function {function_name}.")
    return cast("Redact", function)


def main(argv: list[str] | None = None) -> int:
    """Observe for the process at the other end of a socket; give the exit code."""
    descriptor, home, project = sys.argv[1:4] if argv is None else argv
    configure_logging()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is for the gateway; this ends with it
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(NICENESS)
    return_large()
    with socket.socket(fileno=int(descriptor)) as connection:
        try:
            Observer(connection, Path(home), Path(project)).run()
        except (BrokenPipeError, ConnectionResetError):
            return 0
    return 0
