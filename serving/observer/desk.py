"""One model as the observer sees it: requests joined, written, and compared with the reference."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from lastgood.errors import LastgoodError
from lastgood.monitoring.predictions.columns import log_folder
from lastgood.monitoring.predictions.join import NO_ANSWER, Joiner, Where, read_answers
from lastgood.monitoring.predictions.read import find_answers
from lastgood.monitoring.predictions.redact import Redact
from lastgood.monitoring.predictions.settings import PredictionSettings
from lastgood.monitoring.predictions.write import PredictionLog
from lastgood.serving.observer.wire import Array, Asked, Counted, Kept, Labelled, Paired, Tensor

log = structlog.get_logger()
find_where = lru_cache(1024)(Where)  # one for all requests that share it: each remembered request holds on to it
LOOK_UP_SECONDS: Final = 5.0  # a label that has waited this long is looked for in the log
_LOOK_UP_SHARE: Final = 0.05  # of the time, at most: the log may be long, and a label nobody knows has all of it read


class Desk:
    """Joins and writes what belongs to one model."""

    def __init__(self, model: str, settings: PredictionSettings, home: Path, *, redact: Redact | None, problem: str = "") -> None:
        """
        Prepare.

        Args:
            model: Which model.
            settings: What is kept of it.
            home: Where logs lie.
            redact: Loaded from the project, where the settings name one.
            problem: Why nothing may be written, if so.
        """
        self.model = model
        self._folder = log_folder(home, model)
        self._joiner = Joiner()
        self._log: PredictionLog | None = None
        self._problem = problem
        self._unknown = self._repeated = 0
        self._told: Kept | None = None
        self._look_due = 0.0  # monotonic time in seconds
        if settings.log and not problem:
            try:
                self._log = PredictionLog(
                    self._folder,
                    max_bytes=settings.max_bytes,
                    max_seconds=settings.max_days * 86_400,
                    leave_out=settings.leave_out,
                    redact=redact,
                )
            except LastgoodError as exc:
                self._problem = str(exc)

    def remember(self, requests: int) -> None:
        """Hold so many requests that labels may still come for."""
        self._joiner.remember(requests)

    def take_batch(self, batch: Asked) -> tuple[Array, Array]:
        """
        Take one batch; give the answers, "row" int64, and how sure each was, "row" float32.

        Of a request with several rows the first one is what its label is about, and what is judged: one request, one vote.
        """
        outputs = {tensor.name: tensor.to_array() for tensor in batch.outputs}
        count = sum(batch.rows)
        answers, confidence = read_answers(list(outputs.values()), count)
        start = 0
        for index, rows in enumerate(batch.rows):
            if batch.outcomes[index] == "ok":
                scope = batch.scopes[batch.scope[index]]
                answer = int(answers[start])
                if scope.role == "shadow":
                    self._joiner.add_shadow(batch.serials[index], answer, scope.rollout)
                else:
                    where = find_where(batch.version, scope.role, batch.slices[index], scope.rollout, scope.step)
                    self._joiner.add_answer(batch.ids[index], answer, where, serial=batch.serials[index])
            start += rows
        if self._log is not None and batch.inputs is not None:
            self._write(batch, batch.inputs, outputs, answers, confidence, self._log)
        return answers, confidence

    def take_labels(self, told: Labelled) -> None:
        """Take labels of requests, in whatever order they come."""
        for key, label in zip(told.ids, told.labels, strict=True):
            self._joiner.add_label(key, label, told.time)
        if self._log is not None:
            moment = datetime.fromtimestamp(told.time, UTC)
            self._log.add_labels([moment] * len(told.ids), told.ids, told.labels)

    def work(self, now: float, *, everything: bool = False) -> list[Counted]:
        """
        Do what is due: write the log, look for the requests of labels that have waited; give what was found of those.

        Args:
            now: Unix time in seconds.
            everything: Whether this is the last time.
        """
        self._flush(everything=everything)
        began = time.monotonic()
        waiting = self._joiner.take_early(now - LOOK_UP_SECONDS) if everything or began >= self._look_due else {}
        if not waiting:
            return []
        found = self._look_up(waiting)
        if self._log is not None:
            ended = time.monotonic()
            self._look_due = ended + (ended - began) / _LOOK_UP_SHARE
        self._unknown += len(waiting) - len(found)
        # No rollout and no step: what was answered that long ago is counted, and no longer judged.
        return [
            Counted(self.model, row["version"], row["role"], row["slice"], "", 0, 1, int(row["answer"] == waiting[key]))
            for key, row in found.items()
            if row["answer"] is not None
        ]

    def _look_up(self, waiting: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        """Find the newest answers to requests in the log, where their ids may have been redacted."""
        found: dict[str, dict[str, Any]] = {}
        if self._log is None:
            return found
        try:
            written = dict(zip(self._log.find_ids(list(waiting), list(waiting.values())), waiting, strict=False))
            for row in find_answers(self._folder, list(written)):
                found.setdefault(written[row["id"]], row)
                if len(found) == len(written):
                    break
        except Exception as exc:  # noqa: BLE001 - a damaged file, or whatever the project's redaction raises
            self._say(f"labels of {self.model} cannot be looked up: {exc!r}" if not isinstance(exc, LastgoodError) else str(exc))
        return found

    def take_counts(self) -> tuple[list[Counted], list[Paired], list[Kept]]:
        """Give what was counted since the last time, and the state of the log where it is another."""
        tallies = self._joiner.take()
        self._repeated += tallies.repeated
        self._unknown += tallies.dropped
        counted = [
            Counted(self.model, where.version, where.role, where.slice, where.rollout, where.step, labelled, tallies.correct[where])
            for where, labelled in tallies.labelled.items()
        ]
        paired = [Paired(self.model, rollout, *numbers) for rollout, numbers in tallies.pairs.items()]
        own = self._log
        kept = Kept(self.model, own.rows if own else 0, own.failed if own else 0, self._unknown, self._repeated, self._problem)
        changed, self._told = kept != self._told, kept
        return counted, paired, [kept] if changed else []

    def _write(
        self, batch: Asked, inputs: Sequence[Tensor], outputs: Mapping[str, Array], answers: Array, confidence: Array, log: PredictionLog
    ) -> None:
        rows = np.array(batch.rows)
        moment = datetime.fromtimestamp(batch.time, UTC)
        each = np.repeat(np.arange(len(rows)), rows).tolist()
        columns: dict[str, list[Any]] = {
            "time": [moment] * len(each),
            "id": [batch.ids[index] for index in each],
            "version": [batch.version] * len(each),
            "role": [batch.scopes[batch.scope[index]].role for index in each],
            "traffic": [batch.traffic[index] for index in each],
            "slice": [batch.slices[index] for index in each],
            "outcome": [batch.outcomes[index] for index in each],
            "answer": [None if answer == NO_ANSWER else answer for answer in answers.tolist()],
            "confidence": [None if value != value else value for value in confidence.tolist()],  # noqa: PLR0124 - NaN
        }
        try:
            log.add(columns, {tensor.name: tensor.to_array() for tensor in inputs}, outputs)
        except Exception as exc:  # noqa: BLE001 - whatever the project's redaction raises
            self._say(f"the log of {self.model} cannot be written: {exc!r}")

    def _flush(self, *, everything: bool) -> None:
        if self._log is None:
            return
        written = self._log.rows + self._log.labels
        try:
            self._log.flush(everything=everything)
        except Exception as exc:  # noqa: BLE001 - a full disk, or whatever the project's redaction raises
            self._say(f"the log of {self.model} cannot be written: {exc!r}")
        else:
            if self._log.rows + self._log.labels > written:
                self._problem = ""

    def _say(self, problem: str) -> None:
        if problem != self._problem:
            log.error("predictions", model=self.model, problem=problem)
        self._problem = problem
