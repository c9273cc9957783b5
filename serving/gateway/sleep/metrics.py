"""The metrics of what sleeps and what is up, put together when Prometheus asks."""

from collections.abc import Iterator

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from lastgood.monitoring.signals import names
from lastgood.serving.gateway.meters.families import counter, gauge
from lastgood.serving.gateway.sleep.sleepers import RESULTS, Sleepers


class SleepCollector(Collector):
    """Gives what is known of every version that is here; scrape from the gateway's event loop."""

    def __init__(self, sleepers: Sleepers) -> None:
        """Read these at the time of a scrape."""
        self._sleepers = sleepers

    def collect(self) -> Iterator[Family]:
        """Put the metric families together."""
        sleepers, room = self._sleepers, self._sleepers.room
        sleeping, resident = gauge(names.SLEEPING), gauge(names.RESIDENT)
        wakes, evictions = counter(names.WAKES), counter(names.EVICTIONS)
        for pool in sorted(room.pools, key=lambda pool: (pool.model, pool.number)):
            labels = (pool.model, str(pool.number))
            sleeping.add_metric(labels, float(pool.bed.asleep))
            resident.add_metric(labels, float(room.weigh(pool) if room.is_up(pool) else 0))
            evictions.add_metric(labels, float(sleepers.evictions[pool.model, pool.number]))
            for result in RESULTS:
                wakes.add_metric((*labels, result), float(sleepers.wakes[pool.model, pool.number, result]))
        seconds = HistogramMetricFamily(names.WAKE_SECONDS.name, names.WAKE_SECONDS.help, labels=names.WAKE_SECONDS.labels)
        seconds.add_metric((), sleepers.wake_seconds.cumulate(), sleepers.wake_seconds.total)
        yield from (sleeping, resident, wakes, evictions, seconds)
