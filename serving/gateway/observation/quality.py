"""What is known of answers afterwards, as metrics and as the control plane shows it."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from lastgood.monitoring.predictions.accuracy import find_accuracy
from lastgood.monitoring.signals import names
from lastgood.serving.gateway.meters.families import counter, gauge
from lastgood.serving.gateway.observation.drifts import Drift, describe_drift, list_meanings
from lastgood.serving.gateway.observation.observation import Known, Observation
from lastgood.serving.gateway.rollouts.book import Book


class QualityCollector(Collector):
    """Gives what the observer found; scrape from the gateway's event loop."""

    def __init__(self, observation: Observation, book: Book) -> None:
        """Read these at the time of a scrape."""
        self._observation = observation
        self._book = book

    def collect(self) -> Iterator[Family]:
        """Put the metric families together."""
        models = self._observation.models
        labelled, correct, floor = counter(names.LABELLED), counter(names.LABELLED_CORRECT), gauge(names.ACCURACY_FLOOR)
        failures, dropped = counter(names.PREDICTION_LOG_FAILURES), counter(names.OBSERVER_DROPPED)
        for model, known in models.items():
            for series, count in known.labelled.items():
                labelled.add_metric((model, *series), float(count))
                correct.add_metric((model, *series), float(known.correct[series]))
            if (least := self._observation.floor(model)) is not None:
                floor.add_metric((model,), least)
            failures.add_metric((model,), float(known.failures))
            dropped.add_metric((model,), float(self._observation.feed.dropped[model]))
        yield from self._drift()
        up = gauge(names.OBSERVER_UP)
        up.add_metric((), float(self._observation.process.up))
        yield from (labelled, correct, floor, failures, dropped, up)

    def _drift(self) -> Iterator[Family]:
        evidence, threshold, meaning = gauge(names.DRIFT_EVIDENCE), gauge(names.DRIFT_THRESHOLD), gauge(names.DRIFT_MEANING)
        estimated = gauge(names.ESTIMATED_ACCURACY)
        for model, drift in self._observation.drifts.models.items():
            held = self._book.held.get(model)
            if held is None:
                continue
            main = drift.main(held)
            if main is not None:
                evidence.add_metric((model,), main.log_evidence)
                threshold.add_metric((model,), main.log_threshold)
            for name, value in list_meanings(drift.meaning.conclusion).items():
                meaning.add_metric((model, name), value)
            for version, drifted in drift.versions.items():
                if (found := drifted.report["accuracy"]) is not None:
                    estimated.add_metric((model, str(version)), found["accuracy"])
        yield from (evidence, threshold, meaning, estimated)


def describe_quality(known: Known, drift: Drift | None, *, floor: float | None, dropped: int) -> dict[str, Any]:
    """Give what is known of a model's answers as JSON values."""
    accuracy = [
        {"version": int(version), "role": role, "slice": part, **found._asdict()}
        for (version, role, part), labelled in sorted(known.labelled.items())
        if (found := find_accuracy(labelled, known.correct[version, role, part])) is not None
    ]
    kept = known.kept
    return {
        "accuracy": accuracy,
        "accuracy_floor": floor,
        "drift": describe_drift(drift),
        "labels": {"unknown": known.unknown, "repeated": known.repeated},
        "log": {"rows": kept.rows if kept else 0, "failed": known.failures, "dropped": dropped, "problem": kept.problem if kept else ""},
        "settings": known.settings.model_dump(mode="json"),
    }
