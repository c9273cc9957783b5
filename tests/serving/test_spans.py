"""Traces end to end: what goes out in answers, and what a real OTLP/HTTP receiver is sent."""

import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client import CollectorRegistry, generate_latest

from lastgood.errors import ConfigurationError
from lastgood.serving.gateway.program import Gateway
from lastgood.serving.gateway.telemetry.collector import TelemetryCollector
from lastgood.serving.gateway.telemetry.record import Record
from lastgood.serving.gateway.telemetry.spans import Spans
from lastgood.serving.gateway.telemetry.telemetry import MissingOpenTelemetryError, Telemetry, open_telemetry
from lastgood.settings import Settings, load_settings
from lastgood.telemetry import TelemetrySettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.conftest import Tools, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
PLAIN = Record(1_000.5, 0.25, "GET", "/v2", 200, 100, None, b"", None)


class Receiver:
    """Takes OTLP over HTTP and keeps it."""

    def __init__(self) -> None:
        self.messages: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.status = 200
        own = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                own.paths.append(self.path)
                own.headers.append({name.lower(): value for name, value in self.headers.items()})
                own.messages.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(own.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def spans(self) -> list[Span]:
        """All that came."""
        return [span for own in self.messages for resource in own.resource_spans for scope in resource.scope_spans for span in scope.spans]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run one."""
    found = Receiver()
    thread = threading.Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def read_attributes(span: Span) -> dict[str, Any]:
    return {own.key: own.value.string_value or own.value.int_value for own in span.attributes}


def test_an_answer_carries_the_gateways_span_where_the_request_had_a_trace(run: Run, versions: "Versions", tools: "Tools") -> None:
    """With telemetry off: same trace and flags, another span for each, on errors too; none is invented, and nonsense is ignored."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, tools.connect(gateway.plane.port) as client:
            await gateway.serve(versions.linear())
            seen = set()
            for header in (SAMPLED, UNSAMPLED, SAMPLED):
                for path, status in (("m", 200), ("nobody", 404)):
                    reply = await client.infer([1.0, 2.0, 3.0], path=path, headers=f"traceparent: {header}\r\n")
                    assert reply.status == status
                    version, trace, span, flags = reply.headers["traceparent"].split("-")
                    assert ("00", TRACE, header[-2:]) == (version, trace, flags)
                    seen.add(span)
            assert len(seen - {PARENT}) == 6
            for headers in ("", f"traceparent: {SAMPLED}-more\r\n", f"traceparent: {SAMPLED}\r\n" * 2, "tracestate: a=1\r\n"):
                reply = await client.infer([1.0, 2.0, 3.0], headers=headers)
                assert reply.status == 200
                assert "traceparent" not in reply.headers

    run(scenario)


def test_a_sampled_request_becomes_three_spans_at_the_collector(run: Run, versions: "Versions", tools: "Tools", receiver: Receiver) -> None:
    """The request's is the client's child and has the id the answer said; queue and compute are its own children, and lie within it."""
    replies = []
    began = time.time_ns()

    async def scenario() -> None:
        telemetry = TelemetrySettings(otlp_endpoint=receiver.url, sample=1.0)
        async with tools.open_gateway(telemetry=telemetry) as gateway, tools.connect(gateway.plane.port) as client:
            await gateway.serve(versions.linear())
            headers = f"traceparent: {SAMPLED}\r\ntracestate: congo=t61rcWkgMzE, rojo=1\r\n"
            replies.append(await client.infer([1.0, 2.0, 3.0] * 2, [2, 3], headers=headers))
            await client.infer([1.0, 2.0, 3.0], headers=f"traceparent: {UNSAMPLED}\r\n")  # its client has decided

    run(scenario)
    assert ["/v1/traces"] == receiver.paths
    assert "application/x-protobuf" == receiver.headers[0]["content-type"]
    resource = {own.key: own.value.string_value for own in receiver.messages[0].resource_spans[0].resource.attributes}
    assert "lastgood-gateway" == resource["service.name"]
    request, queue, compute = receiver.spans
    assert {bytes.fromhex(TRACE)} == {own.trace_id for own in receiver.spans}
    assert (bytes.fromhex(PARENT), Span.SPAN_KIND_SERVER) == (request.parent_span_id, request.kind)
    assert bytes.fromhex(replies[0].headers["traceparent"].split("-")[2]) == request.span_id
    assert "congo=t61rcWkgMzE,rojo=1" == request.trace_state
    assert [request.span_id] * 2 == [queue.parent_span_id, compute.parent_span_id]
    assert ["queue", "compute"] == [queue.name, compute.name]
    assert 3 == len({own.span_id for own in receiver.spans})
    assert began <= request.start_time_unix_nano <= queue.start_time_unix_nano < queue.end_time_unix_nano
    assert queue.end_time_unix_nano <= compute.start_time_unix_nano < compute.end_time_unix_nano
    assert compute.end_time_unix_nano <= request.end_time_unix_nano <= time.time_ns()
    known = read_attributes(request)
    assert ("POST", "/v2/models/m/infer", 200) == (known["http.request.method"], known["url.path"], known["http.response.status_code"])
    for span in receiver.spans:
        own = read_attributes(span)
        assert ("m", 1, "live") == (own["lastgood.model"], own["lastgood.version"], own["lastgood.role"])
    assert 2 == read_attributes(compute)["lastgood.batch_rows"]
    assert Status.STATUS_CODE_UNSET == request.status.code


def test_a_trace_begins_here_only_where_tracing_is_on_and_the_sample_says_so(
    run: Run, versions: "Versions", tools: "Tools", receiver: Receiver
) -> None:
    """Sampled then, and said to the client; a request that fails is a span that failed, with what is known of it."""
    said = []

    async def scenario() -> None:
        for sample in (1.0, 0.0):
            telemetry = TelemetrySettings(otlp_endpoint=receiver.url, sample=sample)
            async with tools.open_gateway(telemetry=telemetry) as gateway, tools.connect(gateway.plane.port) as client:
                await gateway.serve(versions.logarithm())
                assert (await client.infer([-1.0])).status == 502
                said.append((await client.get("/v2")).headers.get("traceparent"))

    run(scenario)
    assert said[1] is None
    assert said[0] is not None
    assert "03" == said[0].split("-")[3]
    *first, last = receiver.spans
    assert [Span.SPAN_KIND_SERVER, Span.SPAN_KIND_INTERNAL, Span.SPAN_KIND_INTERNAL] == [own.kind for own in first]
    assert Status.STATUS_CODE_ERROR == first[0].status.code
    assert 502 == read_attributes(first[0])["http.response.status_code"]
    assert b"" == first[0].parent_span_id == last.parent_span_id
    assert said[0].split("-")[1] == last.trace_id.hex() != first[0].trace_id.hex()
    assert ("GET", "/v2") == (last.name, read_attributes(last)["url.path"])


@pytest.mark.parametrize("status", [400, None])
def test_a_collector_that_refuses_or_is_not_there_costs_spans_and_no_answer(
    run: Run, versions: "Versions", tools: "Tools", receiver: Receiver, status: int | None
) -> None:
    """They are counted, in a metric; and the end does not wait for long."""
    registry = CollectorRegistry()
    receiver.status = status or 200
    url = receiver.url if status else "http://127.0.0.1:9"
    lost: list[Telemetry] = []

    async def scenario() -> None:
        async with tools.open_gateway(telemetry=TelemetrySettings(otlp_endpoint=url, sample=1.0)) as gateway:
            registry.register(TelemetryCollector(gateway.telemetry))
            await gateway.serve(versions.linear())
            async with tools.connect(gateway.plane.port) as client:
                for _ in range(20):
                    assert (await client.infer([1.0, 2.0, 3.0])).status == 200
            assert gateway.telemetry is not None
            lost.append(gateway.telemetry)

    began = time.monotonic()
    run(scenario)
    assert time.monotonic() - began < 20
    spans = lost[0].outboxes["spans"]
    spans._thread.join(20)
    assert 20 == spans.dropped
    text = generate_latest(registry).decode()
    assert 'lastgood_telemetry_dropped_total{sink="spans"} 20.0' in text
    assert 'lastgood_telemetry_dropped_total{sink="access_log"} 0.0' in text


def test_what_stays_on_this_machine_goes_through_no_proxy(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says; and its headers for collectors are sent."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
    spans = Spans(f"{receiver.url}/own/path")
    assert 0 == spans._send([PLAIN])
    spans.close()
    assert (["/own/path"], "abc") == (receiver.paths, receiver.headers[0]["x-key"])


def test_without_opentelemetry_an_endpoint_is_an_error_at_start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install; without an endpoint nothing is missing."""
    monkeypatch.delitem(sys.modules, "lastgood.serving.gateway.telemetry.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    asked = settings.model_copy(update={"telemetry": TelemetrySettings(otlp_endpoint="http://127.0.0.1:4318")})
    with pytest.raises(MissingOpenTelemetryError, match=r"'http://127.0.0.1:4318'.*pip install 'lastgood\[otel\]'") as caught:
        Gateway(asked)
    assert 2 == caught.value.exit_code
    telemetry = open_telemetry(TelemetrySettings(access_log=0.5), settings.home)
    assert isinstance(telemetry, Telemetry)
    telemetry.close()
    assert open_telemetry(TelemetrySettings(), settings.home) is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('otlp_endpoint = "http://collector.example:4318"', "plain text"),
        ('otlp_endpoint = "http://10.0.0.1:4318"', "otlp_plain"),
        ('otlp_endpoint = "https://ada:s3cret@collector.example"', "OTEL_EXPORTER_OTLP_HEADERS"),
        ('otlp_endpoint = "127.0.0.1:4318"', "http"),
        ('otlp_endpoint = "grpc://127.0.0.1:4317"', "expected http"),
        ('otlp_endpoint = "http://127.0.0.1:port"', "no URL"),
        ("sample = 1.5", "less than or equal to 1"),
        ("access_log = 2", "access_log"),
        ('access_log = "on"', "access_log"),
        ("access_log_bytes = 10", "access_log_bytes"),
        ("otlp = 1", "otlp"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path: "Path", monkeypatch: pytest.MonkeyPatch, line: str, says: str) -> None:
    """With what is expected instead; a password is not repeated."""
    monkeypatch.delenv("LASTGOOD_HOME", raising=False)
    (tmp_path / "lastgood.toml").write_text(f"[telemetry]\n{line}\n", "utf-8")
    with pytest.raises(ConfigurationError, match=says) as caught:
        load_settings(tmp_path)
    assert "telemetry" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "url"),
    [
        ('otlp_endpoint = "http://localhost:4318"', "http://localhost:4318/v1/traces"),
        ('otlp_endpoint = "http://[::1]:4318/"', "http://[::1]:4318/v1/traces"),
        ('otlp_endpoint = "https://collector.example/otlp/v1/traces"', "https://collector.example/otlp/v1/traces"),
        ('otlp_endpoint = "http://collector.example:4318"\notlp_plain = true', "http://collector.example:4318/v1/traces"),
        ("access_log = 0.01", None),
    ],
)
def test_an_endpoint_is_on_this_machine_or_encrypted_unless_said(
    tmp_path: "Path", monkeypatch: pytest.MonkeyPatch, line: str, url: str | None
) -> None:
    """Without a path, the standard's one is meant."""
    monkeypatch.delenv("LASTGOOD_HOME", raising=False)
    (tmp_path / "lastgood.toml").write_text(f"[telemetry]\n{line}\n", "utf-8")
    assert url == load_settings(tmp_path).telemetry.traces_url
