"""How much memory the versions that are up take, whether one more fits, and which model is to sleep for it."""

from collections.abc import Iterable, Iterator
from typing import Final

from lastgood.replicas import ServingSettings
from lastgood.serving.gateway.pool.pool import ReplicaPool
from lastgood.serving.gateway.rollouts.book import Book
from lastgood.serving.gateway.sleep.footprint import estimate_bytes

_MIB: Final = 1 << 20


class Room:
    """
    The memory of all versions that are up, against the limit.

    A model sleeps as a whole: while its live version is up, what it would be taken back to is up beside it, so that taking back is
    as immediate as where nothing sleeps.
    """

    def __init__(self, serving: ServingSettings, book: Book) -> None:
        """Remember the limit and the models that are exempt from it."""
        self.limit = serving.loaded_bytes  # bytes; None: everything is up all the time
        self.pools: set[ReplicaPool] = set()
        self.reserved: set[ReplicaPool] = set()  # there is room for them, and they are on their way up
        self.falling: set[ReplicaPool] = set()  # they sleep, and their processes are not gone yet
        self._serving = serving
        self._book = book
        self._measured: dict[ReplicaPool, int] = {}

    def forget(self, pool: ReplicaPool) -> None:
        """Count a version no more."""
        self.pools.discard(pool)
        self.reserved.discard(pool)
        self._measured.pop(pool, None)

    def weigh(self, pool: ReplicaPool) -> int:
        """Give what a version takes while it is up, in bytes: as measured when it last was, else estimated."""
        return self._measured.get(pool) or estimate_bytes(pool.content, pool.serving.count())

    def note(self, pool: ReplicaPool, measured: int | None) -> None:
        """Remember what a version takes, if it could be measured; in bytes."""
        if measured is not None and pool in self.pools:
            self._measured[pool] = measured

    def is_up(self, pool: ReplicaPool) -> bool:
        """Say whether it takes memory, or is about to."""
        return not pool.bed.asleep or pool in self.reserved or pool in self.falling

    @property
    def taken(self) -> int:
        """Bytes that are taken, or promised to what is on its way up."""
        return sum(self.weigh(pool) for pool in self.pools if self.is_up(pool))

    def fits(self, needed: int) -> bool:
        """Say whether so many bytes more stay within the limit."""
        return self.limit is None or self.taken + needed <= self.limit

    def must_be_up(self, model: str) -> bool:
        """Say whether a model never sleeps: a rollout of it runs, or it is set to be kept."""
        held = self._book.held.get(model)
        return (held is not None and held.state.running is not None) or self._serving.of(model).keep_loaded

    def group(self, model: str) -> list[ReplicaPool]:
        """Give all versions of a model."""
        return [pool for pool in self.pools if pool.model == model]

    def find_victim(self, spared: str) -> str | None:
        """Give the model that was asked longest ago, of those that may sleep and are idle now; never the one that is spared."""
        idle = {
            model: pools
            for model, pools in self._sleepable(spared)
            if all(pool.idle for pool in pools if not pool.bed.asleep) and not any(pool in self.reserved for pool in pools)
        }
        return min(idle, key=lambda model: (max(pool.used_at for pool in idle[model]), model), default=None)

    def list_busy(self, spared: str) -> list[ReplicaPool]:
        """Give the versions whose end of work would make room, sooner or later."""
        return [pool for _, pools in self._sleepable(spared) for pool in pools if pool.busy]

    def kept_bytes(self) -> int:
        """Give how many bytes are taken by what never sleeps."""
        return sum(self.weigh(pool) for pool in self.pools if self.is_up(pool) and self.must_be_up(pool.model))

    def explain(self, model: str, needed: int) -> str:
        """Say why there is no room, as a part of a sentence."""
        limit = (self.limit or 0) // _MIB
        if needed + self.kept_bytes() > limit * _MIB:
            return (
                f"{model} needs about {needed // _MIB} MiB, and {self.kept_bytes() // _MIB} MiB are taken by what never sleeps; "
                f"loaded_bytes allows {limit} MiB together"
            )
        return f"all {limit} MiB of loaded_bytes are taken by models that have requests"

    def choose(self, models: Iterable[tuple[str, int]]) -> set[str]:
        """
        Give the models that are to be up from the start: those that must, and as many of the others as there is room for.

        Args:
            models: With the bytes that each one needs, the most wanted first.
        """
        wanted = list(models)
        chosen = {model for model, _ in wanted if self.limit is None or self.must_be_up(model)}
        taken = sum(needed for model, needed in wanted if model in chosen)
        for model, needed in wanted:
            if model not in chosen and self.limit is not None and taken + needed <= self.limit:
                chosen.add(model)
                taken += needed
        return chosen

    def _sleepable(self, spared: str) -> Iterator[tuple[str, list[ReplicaPool]]]:
        for model in {pool.model for pool in self.pools if not pool.bed.asleep} - {spared}:
            if not self.must_be_up(model):
                yield model, self.group(model)
