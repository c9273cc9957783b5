"""The metrics of routes, rollouts and withdrawals, put together when Prometheus asks."""

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from lastgood import __version__
from lastgood.monitoring.signals import names
from lastgood.serving.gateway.meters.families import counter, gauge
from lastgood.serving.gateway.rollouts.conductor import Conductor
from lastgood.serving.gateway.rollouts.describe import list_lanes
from lastgood.serving.rollout.table import State

CAUSES = ("judge", "alert", "person", "not-ready")
RESULTS = ("rollback", "compare", "ignored")


class RolloutCollector(Collector):
    """Gives what the conductor knows; scrape from the gateway's event loop."""

    def __init__(self, conductor: Conductor, home: Path) -> None:
        """Read this conductor, and the room there is in its home, at the time of a scrape."""
        self._home = home
        self._conductor = conductor

    def collect(self) -> Iterator[Family]:
        """Put the metric families together."""
        yield from self._routes()
        yield from self._rollouts()
        yield from self._counters()
        free = gauge(names.FREE)
        free.add_metric((), float(shutil.disk_usage(self._home).free))
        yield free
        unrecorded = gauge(names.UNRECORDED)
        unrecorded.add_metric((), float(self._conductor.withdrawals.count_unrecorded()))
        yield unrecorded
        broken = gauge(names.CHAIN_BROKEN)
        if self._conductor.auditor.broken is not None:
            broken.add_metric((), float(self._conductor.auditor.broken))
        yield broken
        build = gauge(names.BUILD_INFO)
        build.add_metric((__version__,), 1.0)
        yield build

    def _routes(self) -> Iterator[Family]:
        share, since, generation = gauge(names.ROUTE_SHARE), gauge(names.ROUTE_SINCE), gauge(names.ROUTE_GENERATION)
        for model, held in self._conductor.book.held.items():
            generation.add_metric((model,), float(held.generation))
            for pin, role, part in list_lanes(held):
                share.add_metric((model, str(pin.number), role), part)
                if (began := held.state.episodes.get(pin.digest)) is not None:
                    since.add_metric((model, str(pin.number)), datetime.fromisoformat(began).timestamp())
        yield from (share, since, generation)

    def _rollouts(self) -> Iterator[Family]:
        states, frozen = gauge(names.ROLLOUT_STATE), gauge(names.FROZEN)
        evidence, threshold = gauge(names.EVIDENCE), gauge(names.THRESHOLD)
        for model, held in self._conductor.book.held.items():
            frozen.add_metric((model,), float(held.state.frozen is not None))
            rollout = held.state.rollout
            if rollout is None:
                continue
            version = str(rollout.candidate.number)
            for state in State:
                states.add_metric((model, version, state.value), float(rollout.state is state))
            if held.state.running is not None and held.verdict is not None:
                for test in held.verdict.tests:
                    evidence.add_metric((model, version, test.kind), test.log_evidence)
                    threshold.add_metric((model, version, test.kind), test.log_threshold)
        yield from (states, frozen, evidence, threshold)

    def _counters(self) -> Iterator[Family]:
        tallies, models = self._conductor.book.tallies, self._conductor.book.held
        withdrawals, pages, alerts = counter(names.WITHDRAWALS), counter(names.PAGES), counter(names.ALERTS)
        for model in models:
            # From zero on: a counter that appears with its first event has no increase to alert on.
            for cause in CAUSES:
                withdrawals.add_metric((model, cause), float(tallies.get(("withdrawals", model, cause), 0)))
            pages.add_metric((model,), float(tallies.get(("pages", model), 0)))
        for model in dict.fromkeys((*models, "unknown")):  # a model may have this name
            for result in RESULTS:
                alerts.add_metric((model, result), float(tallies.get(("alerts", model, result), 0)))
        yield from (withdrawals, pages, alerts)
