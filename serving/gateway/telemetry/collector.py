"""What telemetry lost, as a metric."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from lastgood.monitoring.signals import names
from lastgood.serving.gateway.meters.families import counter
from lastgood.serving.gateway.telemetry.telemetry import Telemetry

SINKS: Final = ("access_log", "spans")


class TelemetryCollector(Collector):
    """Gives what was lost by where it should have gone, zero where nothing goes."""

    def __init__(self, telemetry: Telemetry | None) -> None:
        """Read it at the time of a scrape; None where telemetry is off."""
        self._telemetry = telemetry

    def collect(self) -> Iterator[Family]:
        """Put the metric family together."""
        outboxes = {} if self._telemetry is None else self._telemetry.outboxes
        dropped = counter(names.TELEMETRY_DROPPED)
        for sink in SINKS:
            dropped.add_metric((sink,), float(outboxes[sink].dropped) if sink in outboxes else 0.0)
        yield dropped
