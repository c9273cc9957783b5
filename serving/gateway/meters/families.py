"""Metric families as `lastgood.monitoring.signals.names` declares them, for the collectors."""

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from lastgood.monitoring.signals.names import Metric


def gauge(metric: Metric) -> GaugeMetricFamily:
    """Give an empty family of a gauge."""
    return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)


def counter(metric: Metric) -> CounterMetricFamily:
    """Give an empty family of a counter."""
    return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
