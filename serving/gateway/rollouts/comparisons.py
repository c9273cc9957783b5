"""
Comparing what is live, because an alert asked: the newest other proven version gets half, and the judge decides.

A comparison gives traffic to a version, so it is shared first, as a release is: the baseline is brought up, the shared
record gets the event and the route, and only then is the route put in place. It is no release all the same: nobody
submitted it, it ends as it began or with the fallback, and a person who deploys with ``--replace`` ends it without a verdict.
"""

import secrets
import uuid
from datetime import UTC, datetime

import structlog

from lastgood.errors import LastgoodError
from lastgood.serving.gateway.rollouts.alerts import Alert, Ruling, rule, to_payload
from lastgood.serving.gateway.rollouts.book import Book, Held
from lastgood.serving.gateway.rollouts.record import Note, SharedRecord
from lastgood.serving.gateway.rollouts.shelf import Shelf
from lastgood.serving.gateway.rollouts.stages import Stages
from lastgood.serving.gateway.rollouts.state import Change, Comparing, compare
from lastgood.serving.gateway.rollouts.withdrawals import Withdrawals

log = structlog.get_logger()


class Comparisons:
    """Begins comparisons; the watch goes on with them as with any rollout."""

    def __init__(self, book: Book, record: SharedRecord, shelf: Shelf, stages: Stages, withdrawals: Withdrawals) -> None:
        """Remember what is changed, where it is written, and how a person is told."""
        self._book = book
        self._record = record
        self._shelf = shelf
        self._stages = stages
        self._withdrawals = withdrawals
        self._beginning: set[str] = set()  # models

    def hear(self, held: Held, alert: Alert, ruling: Ruling) -> Ruling:
        """Do what an alert on the live version asks for; it is answered at once, and what takes time goes on by itself."""
        model, running = held.state.model, held.state.running
        if running is not None:
            about = "compared with it" if running.comparison else "being rolled out"
            return Ruling("ignored", f"{model}@{running.candidate.number} is {about} ({running.state}): the judge watches both")
        if model in self._beginning:
            return Ruling("ignored", "a comparison is about to begin")
        change = self._compare(held, alert, set())
        if change.page is not None:
            self._withdrawals.page(held, change.page)
            return Ruling("ignored", f"{change.page} A person was paged")
        if change.state is held.state:
            return Ruling("ignored", "nothing is live")
        self._beginning.add(model)
        self._book.spawn(self._begin(held, alert))
        return ruling

    async def _begin(self, held: Held, alert: Alert) -> None:
        failed: set[str] = set()  # baselines that do not come up here
        try:
            await self._record.insist(lambda: self._try(held, alert, failed), what="comparison", model=held.state.model)
        finally:
            self._beginning.discard(held.state.model)

    async def _try(self, held: Held, alert: Alert, failed: set[str]) -> None:
        model = held.state.model
        while (planned := self._compare(held, alert, failed)).state is not held.state:
            baseline = planned.state.split.main
            assert baseline is not None  # noqa: S101 - a comparison has one
            try:
                await self._shelf.bring(model, baseline)
            except LastgoodError as exc:
                log.warning("a baseline does not come up", model=model, version=baseline.number, why=str(exc))
                failed.add(baseline.digest)
                continue
            async with self._stages.giving(held):
                ruling = rule(alert, {model: held.state})
                change = self._compare(held, alert, failed)
                if ruling.result != "compare" or change.state.split.main != baseline:
                    break  # the route changed meanwhile: if the alert still holds, it comes again
                rollout = change.state.rollout
                assert rollout is not None  # noqa: S101 - it was just made
                payload = {"rollout": rollout.to_json(), "alert": to_payload(alert), "why": ruling.reason}
                note = Note("comparison-begun", rollout.candidate.digest, "alert", payload)
                await self._stages.commit(held, change, [note], actor="alert", why=ruling.reason)
                log.warning("comparison", model=model, version=rollout.candidate.number, baseline=baseline.number, why=ruling.reason)
                return
        if planned.page is not None:
            self._withdrawals.page(held, planned.page)
        if held.state.running is None:
            self._shelf.keep_only(model, held.state.warm)

    def _compare(self, held: Held, alert: Alert, failed: set[str]) -> Change:
        excluded = self._book.vetoed | failed
        return compare(held.state, Comparing(uuid.uuid4().hex, secrets.randbits(64), datetime.now(UTC), alert.began, excluded))
