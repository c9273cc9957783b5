"""The data plane's meters in Prometheus's form, put together when it asks."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from lastgood.monitoring.signals import names
from lastgood.serving.gateway.meters.meters import Histogram, Outcome, RoleMeter, VersionMeter
from lastgood.serving.gateway.pool.pool import ReplicaPool

_KEPT_VERSIONS = 16  # that serve no more: a last scrape must still see their counts
_ANSWERED: Final[tuple[Outcome, ...]] = ("ok", "failed", "invalid", "timeout")
_HISTOGRAMS: tuple[tuple[names.Metric, Callable[[RoleMeter], Histogram]], ...] = (
    (names.REQUEST_SECONDS, lambda meter: meter.request_seconds),
    (names.QUEUE_SECONDS, lambda meter: meter.queue_seconds),
    (names.COMPUTE_SECONDS, lambda meter: meter.compute_seconds),
    (names.BATCH_ROWS, lambda meter: meter.batch_rows),
)


class _Retired(NamedTuple):
    """What is left of a pool that serves no more: its counters, and nothing of its replicas."""

    model: str
    number: int
    meter: VersionMeter


class PlaneCollector(Collector):
    """
    Gives every metric of the pools that serve, and the counters of those that served last.

    Register it with a `prometheus_client.CollectorRegistry`; scrape from the gateway's event loop.
    """

    def __init__(self, pools: Callable[[], Iterable[ReplicaPool]]) -> None:
        """Read the pools that ``pools`` gives at the time of a scrape."""
        self._pools = pools
        self._retired: deque[_Retired] = deque(maxlen=_KEPT_VERSIONS)

    def retire(self, pool: ReplicaPool) -> None:
        """Go on giving the counters of a pool that serves no more, until 16 others came after it."""
        pool.meter.forget_recent()
        self._retired.append(_Retired(pool.model, pool.number, pool.meter))

    def collect(self) -> Iterator[Family]:
        """Put the metric families together."""
        serving = list(self._pools())
        # A version that came back begins anew: two series of one name would make the whole scrape invalid.
        pools: tuple[ReplicaPool | _Retired, ...] = (*self._retired, *serving)
        known = {(pool.model, pool.number): pool for pool in pools}
        yield self._requests(known.values())
        for metric, choose in _HISTOGRAMS:
            family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            for pool in known.values():
                for role, meter in pool.meter.roles.items():
                    histogram = choose(meter)
                    family.add_metric((pool.model, str(pool.number), role), histogram.cumulate(), histogram.total)
            yield family
        ready = GaugeMetricFamily(names.REPLICA_READY.name, names.REPLICA_READY.help, labels=names.REPLICA_READY.labels)
        depth = GaugeMetricFamily(names.QUEUE_DEPTH.name, names.QUEUE_DEPTH.help, labels=names.QUEUE_DEPTH.labels)
        info = GaugeMetricFamily(names.REPLICA_INFO.name, names.REPLICA_INFO.help, labels=names.REPLICA_INFO.labels)
        for pool in serving:
            labels = (pool.model, str(pool.number))
            for provider in pool.providers:
                info.add_metric((*labels, str(pool.serving.count()), str(pool.serving.threads), provider), 1.0)
            if not pool.bed.asleep:  # nothing is wrong with what sleeps: it is neither ready nor not
                ready.add_metric(labels, float(pool.ready))
            depth.add_metric(labels, float(pool.waiting))
        yield ready
        yield info
        yield depth
        deaths = CounterMetricFamily(names.REPLICA_DEATHS.name, names.REPLICA_DEATHS.help, labels=names.REPLICA_DEATHS.labels)
        for pool in known.values():
            deaths.add_metric((pool.model, str(pool.number)), float(pool.meter.deaths))
        yield deaths

    def _requests(self, pools: Iterable[ReplicaPool | _Retired]) -> CounterMetricFamily:
        family = CounterMetricFamily(names.REQUESTS.name, names.REQUESTS.help, labels=names.REQUESTS.labels)
        for pool in pools:
            for role, meter in pool.meter.roles.items():
                # From zero on: an outcome that appears with its first event has no increase to alert on, and no line at zero.
                zeros = {(traffic, outcome): 0 for traffic, _ in meter.requests for outcome in _ANSWERED}
                for (traffic, outcome), count in (zeros | meter.requests).items():
                    family.add_metric((pool.model, str(pool.number), role, traffic, outcome), float(count))
        return family
