"""What is known of answers afterwards: labels, pairs with a shadow, drift; from the observer to the judge and the metrics."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import structlog

from lastgood.monitoring.judge.paired import PairCounts, Pairs
from lastgood.monitoring.predictions.settings import PredictionSettings, read_predictions
from lastgood.serving.gateway.observation.drifts import Drifts
from lastgood.serving.gateway.observation.feed import Feed
from lastgood.serving.gateway.observation.observer import ObserverProcess
from lastgood.serving.gateway.pool.pool import ReplicaPool
from lastgood.serving.gateway.rollouts.book import Book, Held
from lastgood.serving.gateway.rollouts.record import SharedRecord
from lastgood.serving.observer.wire import Counted, Forgotten, Kept, Labelled, News, Paired, Profiled, Watched
from lastgood.settings import PROJECT_FILE, Settings

log = structlog.get_logger()
Series = tuple[str, str, str]  # version, role, slice
_KEPT_VERSIONS: Final = 16  # of a model, that serve no more and whose labels are still counted


@dataclass(slots=True)
class Known:
    """What is known of one model's answers, since the gateway began."""

    settings: PredictionSettings
    labelled: Counter[Series] = field(default_factory=Counter)
    correct: Counter[Series] = field(default_factory=Counter)
    kept: Kept | None = None
    failures: int = 0  # rows that could not be logged, of observers that died too
    unknown: int = 0
    repeated: int = 0
    up: set[str] = field(default_factory=set)  # versions
    gone: dict[str, None] = field(default_factory=dict)  # versions that were up, the one that went last behind

    def note_up(self, version: str) -> None:
        """Take note that a version is up."""
        self.up.add(version)
        self.gone.pop(version, None)

    def note_gone(self, version: str) -> None:
        """Take note that a version is up no more."""
        self.up.discard(version)
        self.gone.pop(version, None)
        self.note_counted(version)

    def note_counted(self, version: str) -> None:
        """Keep what was counted of a version, also where its labels come late; that of the one which went longest ago is forgotten."""
        if version not in self.up:
            self.gone.setdefault(version)
        while len(self.gone) > _KEPT_VERSIONS:
            oldest = next(iter(self.gone))
            del self.gone[oldest]
            for counted in (self.labelled, self.correct):
                for series in [series for series in counted if series[0] == oldest]:
                    del counted[series]


class Observation:
    """Owns the observer; belongs to the gateway's event loop."""

    def __init__(self, settings: Settings, book: Book, record: SharedRecord) -> None:
        """
        Prepare; `start` starts the observer.

        Raises:
            ConfigurationError: A model's settings are not valid.
        """
        self._own = {model: read_predictions(own.predictions, model=model, source=PROJECT_FILE) for model, own in settings.models.items()}
        self._settings = settings
        self._book = book
        self.models: dict[str, Known] = {}
        self._profiles: dict[tuple[str, int], bytes] = {}
        self.process = ObserverProcess(settings.home, settings.project, on_news=self._hear, introduce=self._introduce)
        self.feed = Feed(self.process)
        self.drifts = Drifts(book, record)
        self._closing = False
        self.look: Any = None  # `lastgood.serving.gateway.rollouts.watch.Watch.look`, once there is one

    def start(self) -> None:
        """Start the observer."""
        self.process.start()

    async def close(self) -> None:
        """Let it write what it holds; what it still finds decides nothing any more."""
        self._closing = True
        self.feed.flush()
        await self.process.close()

    def watch(self, pool: ReplicaPool) -> None:
        """Observe a version that is here; called again when its files are, where it slept from the start."""
        model = pool.model
        if model not in self.models:
            settings = self._own.get(model, PredictionSettings())
            self.models[model] = Known(settings)
            self.feed.watch(model, settings)
            self.process.tell(Watched(model, settings.model_dump(mode="json")))
        self.models[model].note_up(str(pool.number))
        if pool.content.drift is not None and self.models[model].settings.how_drift is not None and pool.folder.exists():
            profile = self._profiles[model, pool.number] = (pool.folder / pool.content.drift).read_bytes()
            self.process.tell(Profiled(model, pool.number, profile))

    def forget(self, pool: ReplicaPool) -> None:
        """Observe a version no more: what it was told of it need not be told to another observer."""
        if self._profiles.pop((pool.model, pool.number), None) is not None:
            self.feed.flush()  # its last batches still count
            self.process.tell(Forgotten(pool.model, pool.number))
        self.drifts.forget(pool.model, pool.number)
        if pool.model in self.models:
            self.models[pool.model].note_gone(str(pool.number))

    def take_labels(self, model: str, ids: Sequence[str], labels: Sequence[int], now: float) -> bool:
        """Hand labels to the observer; say whether it takes any now."""
        self.feed.flush()  # so that a label does not come before its answer
        return self.process.tell(Labelled(model, now, list(ids), list(labels)))

    def floor(self, model: str) -> float | None:
        """Give what a model's labelled accuracy must not fall below, as its last rollout was asked for."""
        held = self._book.held.get(model)
        return held.state.rollout.policy.accuracy_floor if held is not None and held.state.rollout is not None else None

    def _introduce(self) -> Iterator[msgspec.Struct]:
        for model, known in self.models.items():
            known.kept = None  # another observer counts from zero
            yield Watched(model, known.settings.model_dump(mode="json"))
        for (model, version), profile in self._profiles.items():
            yield Profiled(model, version, profile)

    # --- news -------------------------------------------------------------------------------------------------------

    def _hear(self, news: News) -> None:
        changed: dict[str, Held] = {}
        for counted in news.counted:
            if (held := self._count(counted)) is not None:
                changed[counted.model] = held
        for paired in news.paired:
            if (held := self._pair(paired)) is not None:
                changed[paired.model] = held
        for drifted in news.drifted if not self._closing else ():
            if (drifted.model, drifted.version) in self._profiles:  # else it was put away meanwhile
                self.drifts.hear(drifted)
        for kept in news.kept:
            self._keep(kept)
        if not self._closing:
            for held in changed.values():
                self.look(held)
            self._book.tell()

    def _count(self, counted: Counted) -> Held | None:
        known = self.models.get(counted.model)
        if known is None:
            return None
        series = (str(counted.version), counted.role, counted.slice)
        known.labelled[series] += counted.labelled
        known.correct[series] += counted.correct
        known.note_counted(series[0])
        held = self._held(counted.model, counted.rollout)
        if held is None or held.counts is None:
            return None
        held.counts.add_labels(counted.step, counted.role, counted.labelled, counted.labelled - counted.correct)
        return held

    def _pair(self, paired: Paired) -> Held | None:
        held = self._held(paired.model, paired.rollout)
        if held is not None and held.counts is not None:
            held.counts.add_pairs(Pairs(paired.agreed, paired.disagreed, PairCounts(paired.lost, paired.won, paired.tied)))
        return held

    def _held(self, model: str, rollout: str) -> Held | None:
        """Give a model whose running rollout is this one."""
        held = self._book.held.get(model)
        return held if held is not None and rollout and held.counts is not None and held.counts.rollout == rollout else None

    def _keep(self, kept: Kept) -> None:
        known = self.models.get(kept.model)
        if known is None:
            return
        before = known.kept
        known.failures += kept.failed - (before.failed if before else 0)
        known.unknown += kept.unknown - (before.unknown if before else 0)
        known.repeated += kept.repeated - (before.repeated if before else 0)
        if kept.problem and kept.problem != (known.kept.problem if known.kept else ""):
            log.error("predictions", model=kept.model, problem=kept.problem)
        known.kept = kept
