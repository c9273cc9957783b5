"""What is known of answers afterwards, as metrics and as the control plane shows it."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from lastgood.monitoring.predictions.accuracy import find_accuracy
from lastgood.monitoring.signals import names
from lastgood.serving.gateway.families import counter, gauge
from lastgood.serving.gateway.observation import Known, Observation


class QualityCollector(Collector):
    """Gives what the observer found; scrape from the gateway's event loop."""

    def __init__(self, observation: Observation) -> None:
        """Read this one at the time of a scrape."""
        self._observation = observation

    def collect(self) -> Iterator[Family]:
        """Put the metric families together."""
        models = self._observation.models
        labelled, correct, floor = counter(names.LABELLED), counter(names.LABELLED_CORRECT), gauge(names.ACCURACY_FLOOR)
        failures, dropped = counter(names.PREDICTION_LOG_FAILURES), counter(names.OBSERVER_DROPPED)
        for model, known in models.items():
            for series, count in known.labelled.items():
                labelled.add_metric((model, *series), float(count))
                correct.add_metric((model, *series), float(known.correct[series]))
            if known.floor is not None:
                floor.add_metric((model,), known.floor)
            failures.add_metric((model,), float(known.failures))
            dropped.add_metric((model,), float(self._observation.feed.dropped[model]))
        up = gauge(names.OBSERVER_UP)
        up.add_metric((), float(self._observation.process.up))
        yield from (labelled, correct, floor, failures, dropped, up)


def describe_quality(known: Known, *, dropped: int) -> dict[str, Any]:
    """Give what is known of a model's answers as JSON values."""
    accuracy = [
        {"version": int(version), "role": role, "slice": part, **found._asdict()}
        for (version, role, part), labelled in sorted(known.labelled.items())
        if (found := find_accuracy(labelled, known.correct[version, role, part])) is not None
    ]
    kept = known.kept
    return {
        "accuracy": accuracy,
        "accuracy_floor": known.floor,
        "labels": {"unknown": known.unknown, "repeated": known.repeated},
        "log": {"rows": kept.rows if kept else 0, "failed": known.failures, "dropped": dropped, "problem": kept.problem if kept else ""},
        "settings": known.settings.model_dump(mode="json"),
    }
