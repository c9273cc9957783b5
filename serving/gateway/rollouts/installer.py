"""From a model's state to the route in the data plane."""

import functools
import math
from collections.abc import Callable
from pathlib import Path

from lastgood.serving.gateway.reception import Reception
from lastgood.serving.gateway.rollouts.book import Held
from lastgood.serving.gateway.rollouts.counts import RolloutCounts
from lastgood.serving.gateway.rollouts.shelf import Shelf
from lastgood.serving.gateway.route import Coin, Kind, Lane, Route, Tally
from lastgood.serving.rollout.table import Rollout, State
from lastgood.settings import Settings


class Installer:
    """Builds a new route for every change and puts it in place with one assignment."""

    def __init__(self, settings: Settings, reception: Reception, shelf: Shelf) -> None:
        """Remember where routes go, and where replicas and counts are."""
        self.counts_folder = settings.home / "gateway" / "counts"
        self.counts_folder.mkdir(parents=True, exist_ok=True)
        self.on_bad: Callable[[Lane, Kind], None] | None = None  # called after a role's tally counted something bad
        self._reception = reception
        self._shelf = shelf

    def install(self, held: Held, vetoed: set[str]) -> None:
        """Put the route of the state in place; a model whose main version is not up has none."""
        model, split, running = held.state.model, held.state.split, held.state.running
        main = self._shelf.get(model, split.main)
        if main is None or main.digest in vetoed:
            if split.main is None:
                self._reception.remove_route(model)
            else:
                self._reception.suspend(model)
            return
        if running is None or running.state is State.STAGED:
            self._reception.set_route(Route(model, held.generation, Lane(main, "live", Tally(), math.inf), None, 0, Coin(0)))
            return
        candidate = None if split.candidate is None or split.candidate.digest in vetoed else self._shelf.get(model, split.candidate)
        shadow = None if split.shadow is None or split.shadow.digest in vetoed else self._shelf.get(model, split.shadow)
        counts = self._counts(held, running)
        # Where there is no baseline beside it, the candidate has everything; of what a shadow gets both have the same.
        step = counts.step(
            0.5 if split.shadow is not None else split.share or 1.0, f"{running.state}/{running.step}", shadow=split.shadow is not None
        )
        lane = functools.partial(
            Lane, slow_limit_seconds=counts.slow_limit_seconds, on_bad=self.on_bad, rollout=running.id, step=len(counts.steps) - 1
        )
        second: Lane | None = None
        if split.main == running.candidate:
            first = lane(main, "candidate", step.candidate.tally)
        elif shadow is not None:
            # Both versions answer what is copied, so both are counted by that alone.
            copies = lane(shadow, "shadow", step.candidate.tally)
            first = Lane(main, "baseline", Tally(), math.inf)
            second = lane(main, "baseline", step.baseline.tally, copies_to=copies)
        else:
            first = lane(main, "baseline", step.baseline.tally)
            second = None if candidate is None else lane(candidate, "candidate", step.candidate.tally, fallback=first)
        if held.coin is None or held.coin.seed != running.seed:
            held.coin = Coin(running.seed)
        share = running.policy.shadow_share if split.shadow is not None else split.share
        threshold = 0 if second is None else int(share * 2**64)
        self._reception.set_route(Route(model, held.generation, first, second, threshold, held.coin))

    def _counts(self, held: Held, running: Rollout) -> RolloutCounts:
        if held.counts is None or held.counts.rollout != running.id:
            held.counts = RolloutCounts.load(self.counts_path(running.model), running.id)
            held.verdict = None
            self.fix_slow_limit(held.counts, running)
        return held.counts

    def fix_slow_limit(self, counts: RolloutCounts, running: Rollout) -> bool:
        """
        Fix above which compute time a batch is slow, once and for the rest of the rollout; say whether that was now.

        A baseline that has not answered enough yet, because it or the gateway was just started, gives the limit as soon as it has:
        until then nothing counts as slow, in either role.
        """
        baseline = self._shelf.get(running.model, running.baseline)
        p99 = baseline.p99_seconds_per_row() if baseline else None
        if p99 is None or math.isfinite(counts.slow_limit_seconds):
            return False
        counts.slow_limit_seconds = running.policy.slow_factor * p99
        return True

    def counts_path(self, model: str) -> Path:
        """Say where the counts of the model's rollout are kept."""
        return self.counts_folder / f"{model}.json"
