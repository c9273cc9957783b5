"""What becomes of a request that was answered: nothing, a line of the access log, spans, or both."""

import logging
import time
from pathlib import Path
from random import random

from lastgood.errors import ConfigurationError
from lastgood.serving.gateway.telemetry.access_log import AccessLog
from lastgood.serving.gateway.telemetry.context import Trace, begin_trace
from lastgood.serving.gateway.telemetry.outbox import Outbox
from lastgood.serving.gateway.telemetry.record import Seen, make_record
from lastgood.telemetry import TelemetrySettings

log = logging.getLogger(__name__)
Sinks = tuple[Outbox, ...]
_ERROR = 400  # statuses from here on are always logged


class MissingOpenTelemetryError(ConfigurationError):
    """Spans are to be sent, and what sends them is not installed."""

    code = "serving.opentelemetry-missing"


class Telemetry:
    """Is told when a request begins and when its answer was written; belongs to one event loop, which it never makes wait."""

    def __init__(self, settings: TelemetrySettings, home: Path) -> None:
        """
        Begin with what the settings ask for.

        Args:
            settings: At least one of access log and endpoint is on.
            home: The installation's folder.

        Raises:
            MissingOpenTelemetryError: An endpoint is set, and OpenTelemetry is not installed.
        """
        self.outboxes: dict[str, Outbox] = {}
        self._spans = None
        self._spans_outbox: Outbox | None = None
        self._log: AccessLog | None = None
        self._log_outbox: Outbox | None = None
        self._sample = settings.sample
        self._share = 0.0
        if settings.traces_url is not None:
            try:
                from lastgood.serving.gateway.telemetry.spans import Spans
            except ImportError as exc:
                raise MissingOpenTelemetryError(
                    f"telemetry.otlp_endpoint is {settings.otlp_endpoint!r}, and OpenTelemetry is not installed ({exc}). "
                    "Install it (pip install 'lastgood[otel]'), or remove the setting."
                ) from exc
            self._spans = Spans(settings.traces_url)
            self._spans_outbox = self.outboxes["spans"] = self._spans.outbox
        if settings.access_log != "off":
            self._share = settings.access_log
            self._log = AccessLog(home / "logs", settings.access_log_bytes)
            self._log_outbox = self.outboxes["access_log"] = self._log.outbox

    def begin(self, seen: Seen) -> None:
        """Take note that a request is whole; one without a trace begins a sampled one, or none."""
        seen.began = time.monotonic()
        if self._spans_outbox is not None and seen.trace is None and random() < self._sample:  # noqa: S311  # a sample, no secret
            seen.trace = begin_trace()

    def choose(self, trace: Trace | None, status: int) -> Sinks:
        """
        Say who is to know of an answer; for most it is nobody.

        Args:
            trace: The request's.
            status: Of the answer, as HTTP numbers them.
        """
        sinks: Sinks = ()
        if self._log_outbox is not None and (status >= _ERROR or random() < self._share):  # noqa: S311
            sinks = (self._log_outbox,)
        if self._spans_outbox is not None and trace is not None and trace.sampled:
            sinks = (*sinks, self._spans_outbox)
        return sinks

    def keep(self, seen: Seen, sinks: Sinks, status: int, nbytes: int) -> None:
        """
        Let them know, once the answer was written.

        Args:
            seen: The request, which `begin` was told of; its ``pending`` is let go of.
            sinks: What `choose` gave.
            status: Of the answer, as HTTP numbers them.
            nbytes: Of the answer.
        """
        pending, seen.pending = seen.pending, None
        record = make_record(seen, pending, status, nbytes, now=time.monotonic(), unix=time.time())
        for outbox in sinks:
            outbox.put(record)

    def close(self) -> None:
        """Write and send what waits, within a few seconds; may wait, so call it from a thread."""
        if self._log is not None:
            self._log.close()
        if self._spans is not None:
            self._spans.close()


def open_telemetry(settings: TelemetrySettings, home: Path) -> Telemetry | None:
    """
    Begin telemetry, or give None where nothing is asked for.

    Raises:
        MissingOpenTelemetryError: An endpoint is set, and OpenTelemetry is not installed.
    """
    return None if settings.traces_url is None and settings.access_log == "off" else Telemetry(settings, home)
