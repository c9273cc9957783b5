"""
Spans for a collector that speaks OTLP over HTTP, where OpenTelemetry is installed.

Resource, transport, retries, TLS and the variables ``OTEL_…`` are the library's. The messages are made here, from the protocol's own
classes: through the SDK's tracer and encoder the three spans of a request take seven times as long.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status
from opentelemetry.sdk.resources import Resource

import lastgood
from lastgood.addresses import is_loopback
from lastgood.serving.gateway.telemetry.context import Trace, read_tracestate
from lastgood.serving.gateway.telemetry.outbox import TURN, Outbox
from lastgood.serving.gateway.telemetry.record import Record

CLOSE_SECONDS: Final = 2.0
EXPORT_SECONDS: Final = 5.0  # for one batch, with its retries
# Sending costs more than what is sent: seldom, and much.
EVERY_SECONDS: Final = 5.0
MOST: Final = 512
_KNOWS_REMOTE: Final = 0x100  # the flag's bits of OTLP: whether the parent is another process's is known,
_IS_REMOTE: Final = 0x200  # and that it is
_NANOSECONDS: Final = 1_000_000_000
Value = str | int


class _Exporter(OTLPSpanExporter):
    """The library's exporter, for messages that are made already."""

    def send(self, data: bytes) -> bool:
        """Send a message, with retries; say whether it was taken."""
        return self._client.export(data).success


class Spans:
    """Sends what is kept of requests to a collector: a span for the request, within it one for the queue and one for the computation."""

    def __init__(self, endpoint: str) -> None:
        """
        Begin; nothing is sent before the first request.

        Args:
            endpoint: Whole URL, with the path.
        """
        logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.ERROR)  # no line for each retry
        session = requests.Session()
        # A proxy that the environment names would be shown what is meant to stay on this machine.
        session.trust_env = not is_loopback(urlsplit(endpoint).hostname or "")
        self._exporter = _Exporter(endpoint=endpoint, timeout=EXPORT_SECONDS, session=session)
        about = Resource.create({"service.name": "lastgood-gateway", "service.version": lastgood.__version__})
        self._resource = ResourceMessage(attributes=_list_attributes({key: str(value) for key, value in about.attributes.items()}))
        self._scope = InstrumentationScope(name="lastgood.serving.gateway", version=lastgood.__version__)
        self.outbox = Outbox("spans", self._send, most=MOST, every=EVERY_SECONDS)

    def close(self) -> None:
        """Send what waits; a retry that is under way is given up."""
        self.outbox.close(CLOSE_SECONDS)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _send(self, records: Sequence[Record]) -> int:
        own = ScopeSpans(scope=self._scope)
        for number, record in enumerate(records, 1):
            if record.trace is not None:
                own.spans.extend(make_spans(record, record.trace))
            if number % TURN == 0:
                time.sleep(0)  # lets go of the interpreter
        message = ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=self._resource, scope_spans=[own])])
        return 0 if self._exporter.send(message.SerializeToString()) else len(records)


def make_spans(record: Record, trace: Trace) -> Iterator[Span]:
    """Give a request's spans, the whole one first."""
    trace_id, own_id = bytes.fromhex(trace.trace_id.decode()), bytes.fromhex(trace.span_id.decode())
    parent = trace.parent_id
    began = record.ended - record.seconds
    failed = record.status >= 500
    work = record.work
    attributes: dict[str, Value] = {
        "http.request.method": record.method,
        "url.path": record.path,
        "http.response.status_code": record.status,
        "http.response.size": record.nbytes,
    }
    about: dict[str, Value] = {}
    if work is not None:
        about = {"lastgood.model": work.model, "lastgood.version": work.version, "lastgood.role": work.role}
        attributes |= {**about, "lastgood.request_id": work.request_id, "lastgood.rows": work.rows}
    if failed:
        attributes["error.type"] = str(record.status)
    yield Span(
        trace_id=trace_id,
        span_id=own_id,
        parent_span_id=b"" if parent is None else bytes.fromhex(parent.decode()),
        trace_state=read_tracestate(record.tracestate).decode("ascii"),
        flags=trace.flags | _KNOWS_REMOTE | (0 if parent is None else _IS_REMOTE),
        name=f"{record.method} inference" if work is not None else record.method or "HTTP",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=_write_time(began),
        end_time_unix_nano=_write_time(record.ended),
        attributes=_list_attributes(attributes),
        status=Status(code=Status.STATUS_CODE_ERROR) if failed else None,
    )
    if work is None:
        return

    def make(name: str, number: int, start: float, end: float, extra: Mapping[str, Value]) -> Span:
        return Span(
            trace_id=trace_id,
            # Their ids follow the request's, which is random.
            span_id=((int.from_bytes(own_id) + number) % (1 << 64) or number).to_bytes(8),
            parent_span_id=own_id,
            flags=trace.flags | _KNOWS_REMOTE,
            name=name,
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=_write_time(began + start),
            end_time_unix_nano=_write_time(began + end),
            attributes=_list_attributes({**about, **extra}),
        )

    yield make("queue", 1, work.queued, record.seconds if work.dispatched is None else work.dispatched, {})
    if work.computed is not None and work.compute_seconds is not None and work.batch_rows is not None:
        yield make("compute", 2, work.computed - work.compute_seconds, work.computed, {"lastgood.batch_rows": work.batch_rows})


def _write_time(seconds: float) -> int:
    return int(seconds * 1e6) * (_NANOSECONDS // 1_000_000)  # a float of this size is no finer


def _list_attributes(values: Mapping[str, Value]) -> list[KeyValue]:
    return [
        KeyValue(key=key, value=AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value))
        for key, value in values.items()
    ]
