"""
Processes that outlive the command that started them, and are found and ended again.

A process is remembered by its id and its start time, so that an id the system gave to somebody else is never
signalled. Each runs in a session of its own: what it starts goes with it.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from lastgood.errors import UnavailableError
from lastgood.ports import find_listener

_POLL_SECONDS: Final = 0.05
_DYING_SECONDS: Final = 3.0
_TAIL_LINES: Final = 8


class PortTakenError(UnavailableError):
    """Somebody else listens where a process of ours should."""

    code = "stack.port-taken"


class StartFailedError(UnavailableError):
    """A process of the stack ended or did not answer in time."""

    code = "stack.start-failed"


@dataclass(frozen=True, slots=True)
class Service:
    """A process of the stack."""

    name: str
    command: Sequence[str]
    port: int
    url: str  # what a person opens
    is_ready: Callable[[], bool]  # asked again and again while it starts
    environment: Mapping[str, str]
    start_seconds: float = 60.0
    prepare: Callable[[], bool] | None = None  # writes what it reads; says whether that changed. SIGHUP makes it read again


class Stack:
    """The processes of one home folder."""

    def __init__(self, home: Path) -> None:
        """Remember where process ids and logs lie."""
        self._folder = home / "stack"
        self.logs = home / "logs"

    def running(self, name: str) -> psutil.Process | None:
        """Give the process if it is the one that was started and still runs."""
        try:
            remembered = json.loads(self._pid_path(name).read_text("utf-8"))
            process = psutil.Process(remembered["pid"])
            alive = process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - remembered["created"]) < 1
        except (FileNotFoundError, json.JSONDecodeError, KeyError, psutil.NoSuchProcess):
            return None
        return process if alive else None

    def start(self, service: Service) -> bool:
        """
        Start a service and wait until it answers; give False where it ran already, with its configuration as it is now.

        Raises:
            PortTakenError: Somebody else listens on its port; the message names who.
            StartFailedError: It ended, or did not answer in time; the message ends with its last lines.
        """
        changed = service.prepare is not None and service.prepare()
        if (process := self.running(service.name)) is not None:
            if changed:
                process.send_signal(signal.SIGHUP)
            return False
        check_port(service.port, service.name)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{service.name}.log"
        before = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            child = subprocess.Popen(
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **service.environment},
                cwd=self._folder,
                start_new_session=True,
            )
        with contextlib.suppress(psutil.NoSuchProcess):
            remembered = {"pid": child.pid, "created": psutil.Process(child.pid).create_time()}
            self._pid_path(service.name).write_text(json.dumps(remembered), "utf-8")
        deadline = time.monotonic() + service.start_seconds
        while not service.is_ready():
            code = child.poll()
            if code is not None or time.monotonic() > deadline:
                self.stop(service.name)
                what = f"ended with exit code {code}" if code is not None else f"did not answer within {service.start_seconds:.0f} s"
                raise StartFailedError(f"{service.name} {what}. The end of {log}:\n{_tail(log, before)}")
            time.sleep(_POLL_SECONDS)
        # The command ends before the service does; without this, Python would warn that nobody waited for it.
        child.returncode = 0
        return True

    def stop(self, name: str, *, seconds: float = 20.0) -> bool:
        """Ask a service to end, and everything it started; kill what does not. Give False where it did not run."""
        process = self.running(name)
        if process is None:
            self._pid_path(name).unlink(missing_ok=True)
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [process, *process.children(recursive=True)]
            process.send_signal(signal.SIGTERM)
            _, alive = psutil.wait_procs([process], timeout=seconds)
            _, alive = psutil.wait_procs([member for member in family if member.is_running()], timeout=2)
            for member in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            psutil.wait_procs(alive, timeout=5)
        self._pid_path(name).unlink(missing_ok=True)
        return True

    def _pid_path(self, name: str) -> Path:
        return self._folder / f"{name}.pid"


def check_port(port: int, purpose: str) -> None:
    """
    Make sure nobody listens on a loopback port.

    A process that is dying keeps its port until its last thread is gone, and is in no list by then: a listener without
    a process is given a moment.

    Raises:
        PortTakenError: Somebody does; the message names the process where the system tells.
    """
    deadline = time.monotonic() + _DYING_SECONDS
    while (listener := find_listener(port)) is not None:
        if listener.pid is not None or time.monotonic() > deadline:
            raise PortTakenError(
                f"{purpose} needs port {port}, and {listener.name} listens there. End it, or choose another with LASTGOOD_PORT_…."
            )
        time.sleep(_POLL_SECONDS)


def _tail(log: Path, offset: int) -> str:
    """Give the last lines that were written after an offset, bytes."""
    lines = log.read_bytes()[offset:].decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
    return "\n".join(f"  {line[:200]}" for line in lines) or "  (empty)"
