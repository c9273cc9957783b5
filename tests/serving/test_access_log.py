"""The access log: what a line says and can never say, which requests get one, and that the file stays small."""

import json
import logging
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.serving.gateway.http.router import Router
from lastgood.serving.gateway.http.server import Request, Respond, Server
from lastgood.serving.gateway.telemetry.access_log import AccessLog, write_line
from lastgood.serving.gateway.telemetry.context import Trace
from lastgood.serving.gateway.telemetry.outbox import Outbox
from lastgood.serving.gateway.telemetry.record import Record, Work
from lastgood.telemetry import TelemetrySettings

if TYPE_CHECKING:
    from tests.serving.conftest import Tools, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
PLAIN = Record(1_000.5, 0.25, "GET", "/v2", 200, 100, None, b"", None)


def make_record(path: str, request_id: str) -> Record:
    work = Work("m", 3, "candidate", request_id, 2, 0.01, 0.02, 0.2, 0.125, 8)
    return Record(1_000.5, 0.25, "POST", path, 200, 100, Trace(TRACEPARENT.encode()), b"", work)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def test_a_line_says_when_what_how_long_and_by_whom() -> None:
    """Everything there is; a request that was not queued has no part that says by whom."""
    assert {
        "time": "1970-01-01T00:16:40.500000+00:00",
        "method": "POST",
        "path": "/v2/models/m/infer",
        "status": 200,
        "bytes": 100,
        "seconds": 0.25,
        "queue_seconds": 0.01,
        "compute_seconds": 0.125,
        "model": "m",
        "version": 3,
        "role": "candidate",
        "request_id": "a",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    } == json.loads(write_line(make_record("/v2/models/m/infer", "a")))
    assert {"time", "method", "path", "status", "bytes", "seconds"} == set(json.loads(write_line(PLAIN)))


@given(st.text(), st.text())
def test_nothing_a_client_sends_breaks_a_line(path: str, request_id: str) -> None:
    """Printable ASCII alone, and it reads back as it was."""
    line = write_line(make_record(path, request_id))
    assert all(32 <= ord(character) < 127 for character in line)
    assert (path, request_id) == (json.loads(line)["path"], json.loads(line)["request_id"])


def test_a_share_is_logged_and_every_error(run: Run, versions: "Versions", tools: "Tools") -> None:
    """With a share of 0: no good answer, but what was not found, could not be read, or was no HTTP."""

    async def scenario() -> None:
        telemetry = TelemetrySettings(access_log=0.0)
        async with tools.open_gateway(telemetry=telemetry) as gateway, tools.connect(gateway.plane.port) as client:
            await gateway.serve(versions.linear())
            assert (await client.infer([1.0, 2.0, 3.0])).status == 200
            assert (await client.infer([1.0], path="nobody")).status == 404
            assert (await client.infer([1.0])).status == 400
            assert (await client.get("/v2/health/live")).status == 200
            client.send(b"nonsense\r\n\r\n")
            assert (await client.read()).status == 400

    run(scenario)
    found = read_lines(tools.place.folder / "logs" / "access.jsonl")
    assert [404, 400, 400] == [own["status"] for own in found]
    assert "/v2/models/nobody/infer" == found[0]["path"]


def test_lines_hold_times_and_roles_and_no_bodies_queries_or_secrets(run: Run, versions: "Versions", tools: "Tools") -> None:
    """A share of 1, a hostile id, a token, a query; pipelined requests get one line each, in a file for this user alone."""
    hostile = 'a"{}\u2028\u202e\\n'  # control characters are refused before
    body = {"id": hostile, "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [123456.0, 2.0, 3.0]}]}

    async def scenario() -> None:
        telemetry = TelemetrySettings(access_log=1.0)
        async with tools.open_gateway(token="s3cret", telemetry=telemetry) as gateway, tools.connect(gateway.plane.port) as client:
            await gateway.serve(versions.linear())
            headers = f"authorization: Bearer s3cret\r\ntraceparent: {TRACEPARENT}\r\n"
            for _ in range(3):
                client.send_post("/v2/models/m/infer?key=s3cret", json.dumps(body).encode(), headers)
            for _ in range(3):
                assert (await client.read()).status == 200
            assert (await client.get("/v2?key=s3cret")).status == 401

    run(scenario)
    path = tools.place.folder / "logs" / "access.jsonl"
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    text = path.read_text("ascii")
    assert "s3cret" not in text
    assert "123456" not in text
    found = read_lines(path)
    assert [200, 200, 200, 401] == [own["status"] for own in found]
    for own in found[:3]:
        assert ("m", 1, "live", "/v2/models/m/infer") == (own["model"], own["version"], own["role"], own["path"])
        assert (hostile, TRACEPARENT.split("-")[1]) == (own["request_id"], own["trace_id"])
        assert 0 <= own["queue_seconds"] < own["seconds"]
        assert 0 < own["compute_seconds"] < own["seconds"] < 20
        assert 100 < own["bytes"] < 1000


def test_a_request_that_never_reached_a_replica_has_no_times_of_one() -> None:
    """They are there, and nothing."""
    line = json.loads(write_line(PLAIN._replace(work=Work("m", 1, "live", "a", 1, 0.0, None, None, None, None))))
    assert (None, None) == (line["queue_seconds"], line["compute_seconds"])


def test_the_files_take_no_more_than_they_may(tmp_path: Path) -> None:
    """A newer file takes the older one's place; all lines that are left are whole, and the last one is the newest."""
    most = 1 << 16
    log = AccessLog(tmp_path, most)
    for number in range(2_000):
        log._write([PLAIN._replace(path=f"/{number}")])
    log.close()
    both = [log.path, tmp_path / "access.jsonl.1"]
    assert most // 2 < sum(own.stat().st_size for own in both) <= most
    found = [own["path"] for own in (*read_lines(both[1]), *read_lines(both[0]))]
    assert [f"/{number}" for number in range(2_000 - len(found), 2_000)] == found


def test_a_log_goes_on_where_it_was(tmp_path: Path) -> None:
    """A restart neither empties nor outgrows it."""
    for number in range(3):
        log = AccessLog(tmp_path, 1 << 16)
        log.outbox.put(PLAIN._replace(path=f"/{number}"))
        log.close()
    assert ["/0", "/1", "/2"] == [own["path"] for own in read_lines(log.path)]


def test_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are counted, and it is said once."""
    (tmp_path / "access.jsonl").symlink_to("/dev/full")
    log = AccessLog(tmp_path, 1 << 20)
    for _ in range(200):
        log.outbox.put(PLAIN)
    log.close()
    assert 200 == log.outbox.dropped
    assert 1 == len([own for own in caplog.records if "No space left" in own.getMessage()])


def test_what_does_not_fit_is_dropped_and_counted_and_nobody_waits() -> None:
    """Neither who leaves records nor, for longer than it says, who closes; and a bug where they go to is in the log."""
    entered, leave = threading.Event(), threading.Event()

    def block(records: Sequence[Record]) -> int:
        entered.set()
        leave.wait(20)
        return len(records) // 2

    box = Outbox("test", block, limit=100, every=0.001)
    for _ in range(64):
        box.put(PLAIN)
    assert entered.wait(20)
    waiting = len(box._waiting)
    for _ in range(500):
        box.put(PLAIN)
    assert 500 - (100 - waiting) == box.dropped
    began = time.monotonic()
    box.close(0.05)
    assert time.monotonic() - began < 5
    assert 500 - (100 - waiting) + 100 == box.dropped
    leave.set()
    box._thread.join(20)
    assert box.dropped >= 500 - (100 - waiting) + 100
    box.put(PLAIN)
    assert not box._waiting


def test_a_bug_in_writing_loses_a_batch_and_not_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """What comes after it is written."""
    seen: list[int] = []

    def fail_first(records: Sequence[Record]) -> int:
        seen.append(len(records))
        if len(seen) == 1:
            raise ZeroDivisionError
        return 0

    box = Outbox("test", fail_first, every=60)
    for _ in range(100):
        box.put(PLAIN)
    box.close(20)
    assert ([64, 36], 64) == (seen, box.dropped)
    assert "64 records are lost" in caplog.text


def test_log_lines_about_a_request_have_its_trace(run: Run, tools: "Tools", caplog: pytest.LogCaptureFixture) -> None:
    """Of a handler that fails at once, and of an endpoint; without a trace there is no such field."""

    def fail(request: Request, respond: Respond | None = None) -> Any:
        raise ZeroDivisionError(request.path)

    async def scenario() -> None:
        router = Router()
        router.add("GET", "/endpoint", fail)
        router.add_callback("GET", "/callback", fail)
        server = Server(router)
        await server.start()
        async with tools.connect(server.port) as client:
            for path in ("/endpoint", "/callback"):
                assert (await client.get(path, f"traceparent: {TRACEPARENT}\r\n")).status == 500
                assert (await client.get(path)).status == 500
        await server.stop(1)

    with caplog.at_level(logging.ERROR):
        run(scenario)
    trace_id = TRACEPARENT.split("-")[1]
    assert [trace_id, None] * 2 == [getattr(own, "trace_id", None) for own in caplog.records if "failed" in own.getMessage()]


def test_the_gateways_log_writes_the_trace_as_a_field() -> None:
    """And no other field that a library may have added."""
    program = (
        "import logging; from lastgood.serving.logs import configure_logging; configure_logging();"
        "logging.getLogger('x').error('a %s', 1, extra={'trace_id': 'abc', 'other': 2})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    line = json.loads(done.stderr)
    assert ("a 1", "abc", False) == (line["event"], line["trace_id"], "other" in line)
