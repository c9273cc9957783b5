"""Real Prometheus and Alertmanager, and sinks that take what a mail server, Slack and PagerDuty take."""

import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from lastgood.ports import free_ports
from lastgood.settings import Settings

ROOT = Path(__file__).parents[2]


@dataclass
class Posted:
    """One POST."""

    at: float  # monotonic seconds
    path: str
    authorization: str | None
    body: Any


@dataclass
class Sink:
    """An HTTP server that keeps what is posted to it; ``answer`` gives status and body, and may look at the post."""

    answer: Callable[[Posted], tuple[int, bytes]] = lambda _: (200, b"ok")
    give: Callable[[], bytes | None] = lambda: None  # what GET answers; None for a server error
    posts: list[Posted] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def listen(self) -> Iterator["Sink"]:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                posted = Posted(time.monotonic(), self.path, self.headers.get("authorization"), json.loads(data))
                status, body = sink.answer(posted)
                sink.posts.append(posted)
                self.reply(status, body)

            def do_GET(self) -> None:
                body = sink.give()
                self.reply(503 if body is None else 200, body or b"")

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class PagerDutySink(Sink):
    """As the Events API v2 counts: a trigger opens an incident unless one with its key is open; resolve ends it."""

    def __init__(self) -> None:
        super().__init__(answer=self._take)
        self.pages: list[str] = []  # summaries of the incidents opened
        self.open: set[str] = set()
        self.resolved = 0

    def _take(self, posted: Posted) -> tuple[int, bytes]:
        event = posted.body
        key, action = event.get("dedup_key"), event.get("event_action")
        payload = event.get("payload") or {}
        good = event.get("routing_key") == "r" * 32 and action in {"trigger", "resolve"} and bool(key)
        good &= payload.get("severity") in {"critical", "error", "warning", "info"} and bool(
            payload.get("summary") and payload.get("source")
        )
        if not good:
            return 400, b'{"status":"invalid event"}'
        if action == "trigger" and key not in self.open:
            self.open.add(key)
            self.pages.append(payload["summary"])
        elif action == "resolve" and key in self.open:
            self.open.discard(key)
            self.resolved += 1
        return 202, b'{"status":"success"}'


class MailSink:
    """A real SMTP server that keeps what it is sent."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        (self.port,) = free_ports(1)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: ARG002, N802 - aiosmtpd's signature
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"

    @contextlib.contextmanager
    def listen(self) -> Iterator["MailSink"]:
        controller = Controller(self, hostname="127.0.0.1", port=self.port)
        controller.start()
        try:
            yield self
        finally:
            controller.stop()


@contextlib.contextmanager
def run_program(command: list[str], url: str, log: Path) -> Iterator[None]:
    """Run a program until left; it must answer within 20 s."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(url, timeout=2).is_success:
                    break
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def run_watchers(folder: Path, prometheus: int, alertmanager: int) -> Iterator[None]:
    """Run Prometheus and Alertmanager with the configuration in a folder, on these ports."""
    of_prometheus = (
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/p",
        f"--web.listen-address=127.0.0.1:{prometheus}",
    )
    of_alertmanager = (
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/a",
        f"--web.listen-address=127.0.0.1:{alertmanager}",
        "--cluster.listen-address=",
    )
    name = "prometheus-alertmanager" if shutil.which("prometheus-alertmanager") else "alertmanager"
    with (
        run_program([name, *of_alertmanager], f"http://127.0.0.1:{alertmanager}/-/ready", folder / "alertmanager.log"),
        run_program(["prometheus", *of_prometheus], f"http://127.0.0.1:{prometheus}/-/ready", folder / "prometheus.log"),
    ):
        yield


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    """Wait for something another process does; fails when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.05)


def load_benchmark(name: str) -> ModuleType:
    """Give a module of `benchmarks/`, such as place: a throwaway installation with a real gateway."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def load(settings: Settings, per_second: float = 100.0) -> Iterator[None]:
    """Ask the model ``scale`` at a steady pace until left, from a thread; whether it answers is not this one's business."""
    stop = threading.Event()
    body = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [3.0]}]}

    def ask() -> None:
        with httpx.Client(base_url=settings.rest_url, timeout=5) as http:
            while not stop.wait(1 / per_second):
                with contextlib.suppress(httpx.TransportError):
                    answer = http.post("/v2/models/scale/infer", json=body)
                    if answer.is_success:
                        http.post("/v2/models/scale/feedback", json={"labels": [{"id": answer.json()["id"], "label": 1}]})

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Tools:
    """What tests call; modules under tests cannot import each other."""

    Sink = Sink
    PagerDutySink = PagerDutySink
    MailSink = MailSink
    run_program = staticmethod(run_program)
    run_watchers = staticmethod(run_watchers)
    wait_until = staticmethod(wait_until)
    load_benchmark = staticmethod(load_benchmark)
    load = staticmethod(load)
    python = sys.executable


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Give the functions above."""
    return Tools()


@pytest.fixture(scope="session")
def programs() -> None:
    """Skip where Prometheus and Alertmanager are not installed."""
    if shutil.which("prometheus") is None or not (shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")):
        pytest.skip("Prometheus or Alertmanager is not installed (Debian: apt-get install prometheus prometheus-alertmanager)")
