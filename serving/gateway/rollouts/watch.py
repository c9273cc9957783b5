"""The watch over running rollouts: counts to the judge, verdicts to withdrawals, and steps forward when a step has what it asked for."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Final

from lastgood.monitoring.judge.receipt import write_receipt
from lastgood.serving.gateway.pool.pool import ReplicaPool
from lastgood.serving.gateway.rollouts.book import Book, Held
from lastgood.serving.gateway.rollouts.counts import RolloutCounts
from lastgood.serving.gateway.rollouts.installer import Installer
from lastgood.serving.gateway.rollouts.record import ACTOR, Note, SharedRecord
from lastgood.serving.gateway.rollouts.shelf import Shelf
from lastgood.serving.gateway.rollouts.withdrawals import Reason, Withdrawals
from lastgood.serving.gateway.route import Kind, Lane
from lastgood.serving.rollout.course import find_progress, find_suspicion
from lastgood.serving.rollout.table import EventKind, Pin, Rollout, State, route_of

_BLIND: Final = "the watch over a rollout failed"
_UNSAVED: Final = "the counts of a rollout cannot be kept; they are in memory, and written when they can be"
TICK_SECONDS: Final = 0.2
Advance = Callable[[Rollout, EventKind, str], None]


class Watch:
    """Looks at a rollout after everything bad, and a few times a second."""

    def __init__(
        self, book: Book, shelf: Shelf, record: SharedRecord, installer: Installer, withdrawals: Withdrawals, advance: Advance
    ) -> None:
        """
        Prepare; `run` begins.

        Args:
            book: The models.
            shelf: Their replicas.
            record: Where deaths are noted.
            installer: Whose lanes report here.
            withdrawals: How a version goes out.
            advance: How a rollout goes on: rollout, event, why.
        """
        self._book = book
        self._shelf = shelf
        self._record = record
        self._installer = installer
        self._withdrawals = withdrawals
        self._advance = advance
        self._saved: dict[str, object] = {}
        self._forgiven: dict[str, float] = {}  # by rollout: the evidence it had when it was last cleared
        self._seen_at = time.monotonic()

    def on_bad(self, lane: Lane, kind: Kind) -> None:
        """Look at the end of this loop tick; several bad events in one tick are one look."""
        del kind
        held = self._book.held[lane.pool.model]
        if not held.judging:
            held.judging = True
            asyncio.get_running_loop().call_soon(self.look, held)

    def on_death(self, pool: ReplicaPool, why: str) -> None:
        """Charge a replica's death to the version that died, once, and look."""
        held = self._book.held[pool.model]
        running = held.state.running
        if running is not None and held.counts is not None and held.counts.steps:
            current = held.counts.steps[-1]
            if pool.digest == running.candidate.digest:
                current.candidate.deaths += 1
            elif running.baseline and pool.digest == running.baseline.digest:
                current.baseline.deaths += 1
        note = Note("replica-died", pool.digest, ACTOR, {"version": pool.number, "why": why})
        self._book.spawn(self._record.append(pool.model, [note]))
        self.look(held)

    def look(self, held: Held) -> None:
        """Judge the running rollout by its counts, and do what the verdict says."""
        held.judging = False
        running, counts = held.state.running, held.counts
        if running is None or counts is None or counts.rollout != running.id or running.state is State.STAGED:
            return
        has_baseline = _is_compared(running)
        unsettled = self._unsettled(running)
        held.verdict = counts.verdict(running.policy.judge, has_baseline=has_baseline, unsettled=unsettled)
        if held.verdict.decision == "bad":
            why = f"the judge: more {held.verdict.kind} events than tolerated"
            reason = Reason("judge", "judge", why, payload={"receipt": self._receipt(held, running, counts, unsettled)})
            self._withdrawals.take(running.model, running.candidate, reason)
        elif (move := find_suspicion(running, held.verdict, counts.marks, forgiven=self._forgiven.get(running.id, 0.0))) is not None:
            self._advance(running, *move)

    async def run(self) -> None:
        """Watch until cancelled; then keep what was counted last."""
        try:
            await self._run()
        finally:
            for held in self._book.held.values():
                if held.state.running is not None and held.counts is not None and held.counts.rollout == held.state.running.id:
                    self._save(held.state.model, held.counts)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            lived, self._seen_at = min(now - self._seen_at, 1.0), now
            for held in list(self._book.held.values()):
                running, counts = held.state.running, held.counts
                if running is not None and counts is not None and counts.rollout == running.id and counts.steps:
                    try:
                        self._tick(held, running, counts, lived)
                    except Exception as exc:  # noqa: BLE001
                        # What goes wrong for one model must not blind the watch over the others.
                        self._book.troubles.report(_BLIND, exc, model=running.model)
                    else:
                        self._book.troubles.end(_BLIND, model=running.model)

    def _tick(self, held: Held, running: Rollout, counts: RolloutCounts, lived: float) -> None:
        current = counts.steps[-1]
        for pin, role in ((running.candidate, current.candidate), (running.baseline, current.baseline)):
            if self._is_ready(running.model, pin):
                role.process_seconds += lived
        if self._installer.fix_slow_limit(counts, running):
            self._installer.install(held, self._book.vetoed)
        self.look(held)
        labelled = sum(step.candidate.labelled + step.baseline.labelled for step in counts.steps)
        seen = (len(counts.steps), current.candidate.tally.requests, current.baseline.tally.requests, labelled, counts.pairs)
        if seen != self._saved.get(running.model):
            if self._save(running.model, counts):
                self._saved[running.model] = seen
            self._book.tell()
        if held.state.running is not running:
            return
        move = find_progress(running, counts.freeze(), seconds=time.monotonic() - current.began, pairs=counts.pairs)
        if move is None:
            return
        if move.kind is EventKind.CLEARED:
            self._forgiven[running.id] = counts.verdict(running.policy.judge, has_baseline=running.baseline is not None).strongest
        self._advance(running, *move)

    def _save(self, model: str, counts: RolloutCounts) -> bool:
        path = self._installer.counts_path(model)
        try:
            counts.save(path)
        except OSError as exc:
            self._book.troubles.report(_UNSAVED, exc, model=model, path=str(path))
            return False
        self._book.troubles.end(_UNSAVED, model=model, path=str(path))
        return True

    def _unsettled(self, running: Rollout) -> int:
        """Give how many of the baseline's batches are being computed."""
        pool = None if running.baseline is None else self._shelf.get(running.model, running.baseline)
        return 0 if pool is None else pool.in_flight

    def _is_ready(self, model: str, pin: Pin | None) -> bool:
        pool = self._shelf.get(model, pin)
        return pool is not None and pool.ready

    def _receipt(self, held: Held, running: Rollout, counts: RolloutCounts, unsettled: int) -> dict[str, object]:
        assert held.verdict is not None  # noqa: S101 - the caller has just set it
        return write_receipt(
            counts.freeze(unsettled),
            running.policy.judge,
            held.verdict,
            has_baseline=_is_compared(running),
            pairs=counts.pairs,
            marks=counts.marks,
            candidate=asdict(running.candidate),
            baseline=asdict(running.baseline) if running.baseline else None,
            fallback=asdict(running.fallback) if running.fallback else None,
            seed=str(running.seed),  # 64 bits do not fit a JSON number
            tosses=held.coin.counter if held.coin else 0,
            share=held.state.split.share,
            state=running.state,
            slow_limit_seconds=counts.slow_limit_seconds if math.isfinite(counts.slow_limit_seconds) else None,
        )


def _is_compared(running: Rollout) -> bool:
    """Say whether another version answers beside the candidate."""
    split = route_of(running)
    return split.candidate is not None or split.shadow is not None
