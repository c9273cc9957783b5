"""
The drift monitor: compares rows of production with a version's profile while they come, in constant memory.

How a daily rhythm is kept from being an alarm: where the profile knows it, each score is taken relative to what is usual at that
hour. Where the profile has no times, nobody knows whether noon differs from midnight until a whole day was seen. Until then a mean
may be off by `UNKNOWN_RHYTHM` sigma: a sine wave about the reference's own mean, which the reference's spread already contains, goes
no further than the square root of two. A feature that breaks is farther off and is found at once; what is smaller is found after the
first day. The rhythm learnt then is relative to that day's mean, so a day that is off as a whole stays visible. Whoever knows that
there is no rhythm says so (``rhythm="none"``) and need not wait.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from lastgood.monitoring.drift.bets import Bets, place_bets
from lastgood.monitoring.drift.detector import BLOCK, CHUNK, FamilyDetector, Suspect
from lastgood.monitoring.drift.errors import ProfileDamagedError, RowsMismatchError
from lastgood.monitoring.drift.estimate import AccuracyEstimator
from lastgood.monitoring.drift.features import Array
from lastgood.monitoring.drift.history import pack, unpack
from lastgood.monitoring.drift.profile import Profile
from lastgood.monitoring.drift.report import DriftReport, Moved, State
from lastgood.monitoring.drift.rhythm import LEAST_ROWS, TERMS, Rhythm, RhythmSums, expand
from lastgood.monitoring.drift.settings import DriftSettings

FORMAT: Final = "lastgood/drift-state/1"
UNKNOWN_RHYTHM: Final = 1.5  # sigma
_SPREAD_MARGIN: Final = 1.5
CLEARED: Final = 0.01  # run lengths: an alarm ends below


class DriftMonitor:
    """Watches one version in one role."""

    def __init__(self, profile: Profile, settings: DriftSettings | None = None) -> None:
        """
        Begin without rows.

        Args:
            profile: The version's reference.
            settings: How to watch.
        """
        self.profile = profile
        self.settings = settings or DriftSettings()
        self._features = len(profile.plan.names)
        self._table = profile.scores.astype(np.float32).ravel()
        self._rhythm = profile.rhythm
        self._learnt_from: int | None = None
        self._learning = RhythmSums(self._features) if profile.rhythm is None and self.settings.rhythm == "learn" else None
        self._detector = FamilyDetector(self._features, self._place_bets(), self.settings.run_length)
        self._estimator = None if profile.calibration is None else AccuracyEstimator(profile.calibration)
        # The rows of a block that is not full yet: sums of scores, of squared scores, of times, and how many.
        self._open = np.zeros((2, self._features))
        self._open_times, self._open_rows = 0.0, 0
        self._state: State = "quiet"
        self._acknowledged = False
        self._evidence = 0.0
        self._last_time: float | None = None
        self.raised_at: float | None = None
        self._recovered_at: float | None = None

    def observe(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], times: float | Array) -> None:
        """
        Compare rows with the reference.

        How rows are split over calls changes nothing but speed: 256 at once cost about a fiftieth of what they cost one by one.

        Args:
            inputs: "row …" arrays by input name.
            outputs: "row …" arrays by output name, what was answered.
            times: Unix seconds of each row, "row", or of all of them.

        Raises:
            RowsMismatchError: The rows are not of the profile's inputs and outputs, or the times not of the rows.
        """
        features = self.profile.plan.extract(inputs, outputs)
        if not len(features):
            return
        if self._estimator is not None and self.profile.plan.confidence is not None:
            self._estimator.observe(features[:, self.profile.plan.confidence])
        scores = self._table.take(self.profile.cells.locate(features))
        if np.shape(times) not in {(), (len(features),)}:
            raise RowsMismatchError(f"There are times of shape {np.shape(times)} for {len(features)} rows; expected one, or one for each.")
        moments = np.broadcast_to(np.asarray(times, np.float64), (len(features),))
        start = 0
        if self._open_rows:
            start = min(BLOCK - self._open_rows, len(scores))
            self._leave_open(scores[:start], moments[:start])
            if self._open_rows == BLOCK:
                sums, squares, when = self._open[:1], self._open[1:], np.array([self._open_times / BLOCK])
                self._open, self._open_times, self._open_rows = np.zeros((2, self._features)), 0.0, 0
                self._take(sums, squares, when)
        while len(scores) - start >= BLOCK:
            end = start + BLOCK * min(CHUNK, (len(scores) - start) // BLOCK)
            blocks = scores[start:end].reshape(-1, BLOCK, self._features)
            self._take(blocks.sum(axis=1), (blocks * blocks).sum(axis=1), moments[start:end].reshape(-1, BLOCK).mean(axis=1))
            start = end
        if start < len(scores):
            self._leave_open(scores[start:], moments[start:])
        self._last_time = float(moments[-1])

    def report(self) -> DriftReport:
        """Say what was found so far."""
        detector, run_length = self._detector, self.settings.run_length
        suspects = detector.find_suspects(CLEARED * run_length) if self._state == "raised" else []
        moved = tuple(self._describe(own) for own in suspects)
        return DriftReport(
            state=self._state,
            evidence=self._evidence / run_length,
            run_length=run_length,
            rows=detector.history.blocks * BLOCK + self._open_rows,
            learning=self._learning is not None,
            acknowledged=self._acknowledged,
            since=suspects[0].change.time if suspects else None,
            since_rows=moved[0].rows if moved else None,
            raised_at=self.raised_at,
            recovered_at=self._recovered_at,
            moved=moved,
            accuracy=None if self._estimator is None else self._estimator.estimate(),
        )

    def acknowledge(self) -> None:
        """Note that a person knows of the alarm; it stays raised while the drift lasts."""
        self._acknowledged = self._state == "raised"

    def reset(self) -> None:
        """End the alarm and forget the evidence; a drift that lasts is found again."""
        self._detector.restart()
        self._evidence = 0.0
        if self._state == "raised":
            self._end_alarm(self._last_time)

    def to_json(self) -> dict[str, Any]:
        """Give everything that `from_json` needs to go on, as JSON values."""
        learning = self._learning
        return {
            "format": FORMAT,
            "profile": self._fingerprint(),
            "settings": asdict(self.settings),
            "stakes": pack(self._detector.stakes),
            "history": self._detector.history.to_json(),
            "open": {"sums": pack(self._open), "times": self._open_times, "rows": self._open_rows},
            "state": self._state,
            "acknowledged": self._acknowledged,
            "evidence": self._evidence,
            "times": [self._last_time, self.raised_at, self._recovered_at],
            "learnt": None if self._learnt_from is None or self._rhythm is None else [self._learnt_from, *map(pack, self._rhythm)],
            "learning": None if learning is None else learning.to_json(),
            "confidence": None if self._estimator is None else pack(self._estimator.counts),
        }

    @classmethod
    def from_json(cls, profile: Profile, value: Mapping[str, Any], settings: DriftSettings | None = None) -> "DriftMonitor":
        """
        Go on where `to_json` left off.

        Args:
            profile: The same profile.
            value: From `to_json`.
            settings: New ones; default: those it had.

        Raises:
            ProfileDamagedError: The state is of another profile, or none.
        """
        try:
            monitor = cls(profile, settings or DriftSettings(**value["settings"]))
            monitor._restore(value)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ProfileDamagedError(f"This is no drift monitor's state: {exc!r}. Begin a new one.") from exc
        return monitor

    def _restore(self, value: Mapping[str, Any]) -> None:
        if value["format"] != FORMAT or value["profile"] != self._fingerprint():
            raise ProfileDamagedError(f"The state is of format {value['format']!r} and profile {value['profile']!r}, not of this one.")
        self._detector.stakes = unpack(value["stakes"], self._detector.stakes)
        self._detector.history.restore(value["history"])
        self._open = unpack(value["open"]["sums"], self._open)
        self._open_times, self._open_rows = float(value["open"]["times"]), int(value["open"]["rows"])
        self._state, self._acknowledged = value["state"], bool(value["acknowledged"])
        self._evidence = float(value["evidence"])
        self._last_time, self.raised_at, self._recovered_at = value["times"]
        if value["learning"] is not None and self._learning is not None:
            self._learning.restore(value["learning"])
        if value["learnt"] is not None:
            self._learning = None
            self._learnt_from = int(value["learnt"][0])
            like = np.zeros((TERMS, self._features))
            self._rhythm = Rhythm(unpack(value["learnt"][1], like), unpack(value["learnt"][2], like))
        if self._estimator is not None and value["confidence"] is not None:
            self._estimator.counts = unpack(value["confidence"], self._estimator.counts)
        self._detector.bet(self._place_bets())

    def _place_bets(self) -> Bets:
        """Make bets beyond what is tolerated now."""
        settings, rows = self.settings, self.profile.rows
        error = 1 / np.sqrt(rows)
        if self._rhythm is not None:
            error = np.sqrt(TERMS / min(rows, self._learnt_from or rows))
        tolerated = settings.tolerated_sigma + settings.margin_errors * error
        if self._learning is not None:
            tolerated = max(tolerated, UNKNOWN_RHYTHM)
        edge = np.full(self._features, tolerated)
        # A mean that is off by what is tolerated moves the squared score too, and a variance is harder to know by the hour.
        spread = (edge + edge**2) * (1.0 if self._rhythm is None else _SPREAD_MARGIN)
        return place_bets(self.profile.scores, self.profile.weights, tolerated=edge, tolerated_spread=spread)

    def _leave_open(self, scores: Array, moments: Array) -> None:
        self._open[0] += scores.sum(axis=0)
        self._open[1] += (scores * scores).sum(axis=0)
        self._open_times += float(moments.sum())
        self._open_rows += len(scores)

    def _take(self, sums: Array, squares: Array, when: Array) -> None:
        """Take full blocks: relative to the hour where the rhythm is known, towards it where it is being learnt."""
        if self._learning is not None:
            self._learning.add(when, sums, squares, BLOCK)
        if self._rhythm is not None:
            means, sigmas = self._rhythm.follow(expand(when), few=self.profile.few)
            squares = (squares - 2 * means * sums + BLOCK * means**2) / sigmas**2
            sums = (sums - BLOCK * means) / sigmas
        evidence = self._detector.add(sums, squares, when)
        self._evidence = float(evidence[-1])
        self._judge(evidence, when)
        if self._learning is not None and self._learning.is_enough(days=self.settings.learning_days, rows=LEAST_ROWS):
            self._adopt(self._learning)

    def _judge(self, evidence: Array, when: Array) -> None:
        run_length = self.settings.run_length
        if self._state == "raised" and evidence.min() >= CLEARED * run_length:
            return
        if self._state != "raised" and evidence.max() < run_length:
            return
        for own, time in zip(evidence, when, strict=True):
            if self._state != "raised" and own >= run_length:
                self._state, self._acknowledged = "raised", False
                self.raised_at, self._recovered_at = float(time), None
            elif self._state == "raised" and own < CLEARED * run_length:
                self._end_alarm(float(time))

    def _end_alarm(self, when: float | None) -> None:
        self._state, self._acknowledged, self._recovered_at = "recovered", False, when

    def _adopt(self, sums: RhythmSums) -> None:
        """Use the learnt rhythm, relative to the learnt days as a whole, so that days that are off as a whole stay visible."""
        mean = sums.firsts[0] / sums.rows
        self._rhythm, self._learnt_from = sums.solve().centre(mean, sums.seconds[0] / sums.rows - mean**2), sums.rows
        self._learning = None
        if self._state != "raised":  # what is off already is so by the hour too: that alarm goes on, since when it began
            self._detector.restart()
        self._detector.bet(self._place_bets())

    def _describe(self, suspect: Suspect) -> Moved:
        change = suspect.change
        return Moved(
            feature=self.profile.plan.names[suspect.feature],
            direction=suspect.group,
            sigma=change.mean,
            spread=math.sqrt(max(change.square - change.mean**2, 0.0)),
            rows=(self._detector.history.blocks - change.block) * BLOCK,
            evidence=suspect.evidence / self.settings.run_length,
        )

    def _fingerprint(self) -> str:
        return hashlib.sha256(self.profile.to_bytes()).hexdigest()
