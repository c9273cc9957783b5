"""
Answers, the shadow's answers to the same requests, and labels, joined in whatever order they come.

Bounded: the oldest requests are forgotten first. A label that comes before its answer waits for it; one whose request was
forgotten is handed back, so that it can be looked up in the log.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
NO_ANSWER: Final = -1  # the model's output is no label
_UNSET: Final = -2
REMEMBERED: Final = 200_000  # requests; some 250 bytes each
WAITING: Final = 20_000  # requests without their shadow's answer, and the other way round
EARLY: Final = 100_000  # labels without an answer; some 200 bytes each
LOOKED_UP: Final = 10_000  # labels at a time: the log is read once for all of them


class Where(NamedTuple):
    """Who gave an answer: version and role, in which step (from 0) of which rollout, for which slice of the traffic; "" is none."""

    version: int
    role: str
    slice: str = ""
    rollout: str = ""
    step: int = 0


@dataclass(slots=True)
class Tallies:
    """What was found since it was last asked."""

    # By where: labelled answers, and the right ones.
    labelled: Counter[Where] = field(default_factory=Counter)
    correct: Counter[Where] = field(default_factory=Counter)
    # By the shadow's rollout: agreed, disagreed, lost, won, tied.
    pairs: dict[str, list[int]] = field(default_factory=dict)
    repeated: int = 0  # labels of requests that had one
    forgotten: int = 0  # requests without a label that gave way to others
    dropped: int = 0  # labels that gave way to others before their requests were looked up


class _Request:
    __slots__ = ("answer", "key", "label", "rollout", "shadow", "where")

    def __init__(self, key: str, answer: int, where: Where) -> None:
        self.key = key
        self.answer = answer
        self.where = where
        self.shadow = _UNSET
        self.rollout = ""  # the shadow's
        self.label = _UNSET


class Joiner:
    """One model's requests; belongs to one thread."""

    def __init__(self, *, remembered: int = REMEMBERED, waiting: int = WAITING, early: int = EARLY) -> None:
        """Begin empty, to hold this many requests, answers that wait for a shadow's, and labels that wait for their answers."""
        self._remembered = remembered
        self._waiting = waiting
        self._most_early = early
        # In order: what lies at the front of a plain dict is found past all that was ever taken from there.
        self._by_key: OrderedDict[str, _Request] = OrderedDict()
        self._by_serial: OrderedDict[int, _Request] = OrderedDict()  # those that were copied to a shadow and have no answer of it yet
        self._early: OrderedDict[str, tuple[int, float]] = OrderedDict()  # labels that came first, and when
        self._shadows: OrderedDict[int, tuple[int, str]] = OrderedDict()  # answers of a shadow that came first
        self.tallies = Tallies()

    def add_answer(self, key: str, answer: int, where: Where, *, serial: int = 0) -> None:
        """
        Take an answer that was returned.

        Args:
            key: The request's id; the newest request with an id is the one that its label is about.
            answer: The label it names, or `NO_ANSWER`.
            where: Who gave it.
            serial: Its number, unlike any other's, if a shadow has a copy; else 0.
        """
        request = self._by_key[key] = _Request(key, answer, where)
        self._by_key.move_to_end(key)
        if serial:
            before = self._shadows.pop(serial, None)
            if before is None:
                self._by_serial[serial] = request
                # By itself: the same id again takes no more room among the requests, but does here.
                while len(self._by_serial) > self._waiting:
                    self._by_serial.popitem(last=False)
            else:
                self._pair(request, *before)
        early = self._early.pop(key, None)
        if early is not None:
            self._label(request, early[0])
        while len(self._by_key) > self._remembered:
            self._forget()

    def add_shadow(self, serial: int, answer: int, rollout: str) -> None:
        """Take a shadow's answer to the request with this number."""
        request = self._by_serial.pop(serial, None)
        if request is not None:
            self._pair(request, answer, rollout)
            return
        self._shadows[serial] = (answer, rollout)
        while len(self._shadows) > self._waiting:
            self._shadows.popitem(last=False)

    def add_label(self, key: str, label: int, now: float) -> None:
        """Take what a request's answer should have been; of several labels the first one counts."""
        request = self._by_key.get(key)
        if request is not None:
            if request.label != _UNSET:
                self.tallies.repeated += 1
            else:
                self._label(request, label)
        elif key in self._early:
            self.tallies.repeated += 1
        else:
            self._early[key] = (label, now)
            while len(self._early) > self._most_early:
                self._early.popitem(last=False)
                self.tallies.dropped += 1

    def take_early(self, before: float, most: int = LOOKED_UP) -> dict[str, int]:
        """Hand labels back that have waited since before this time: their requests are older than what is remembered, or never were."""
        found: dict[str, int] = {}
        for key, (label, came) in self._early.items():
            if came >= before or len(found) >= most:
                break
            found[key] = label
        for key in found:
            del self._early[key]
        return found

    def remember(self, requests: int) -> None:
        """Hold so many requests from now on; those beyond are forgotten when the next one comes."""
        self._remembered = requests

    def take(self) -> Tallies:
        """Give what was found since the last time."""
        tallies, self.tallies = self.tallies, Tallies()
        return tallies

    def _forget(self) -> None:
        _, request = self._by_key.popitem(last=False)
        self.tallies.forgotten += request.label == _UNSET

    def _label(self, request: _Request, label: int) -> None:
        request.label = label
        if request.answer == NO_ANSWER:
            return
        self.tallies.labelled[request.where] += 1
        self.tallies.correct[request.where] += request.answer == label
        if request.shadow != _UNSET:
            self._compare(request)

    def _pair(self, request: _Request, answer: int, rollout: str) -> None:
        request.shadow, request.rollout = answer, rollout
        if NO_ANSWER in {answer, request.answer}:
            return
        self._counts(rollout)[0 if answer == request.answer else 1] += 1
        if request.label != _UNSET:
            self._compare(request)

    def _compare(self, request: _Request) -> None:
        if NO_ANSWER in {request.shadow, request.answer}:
            return
        served, shadowed = request.answer == request.label, request.shadow == request.label
        self._counts(request.rollout)[4 if served == shadowed else 2 if served else 3] += 1

    def _counts(self, rollout: str) -> list[int]:
        return self.tallies.pairs.setdefault(rollout, [0, 0, 0, 0, 0])


def read_answers(outputs: Sequence[Array], rows: int) -> tuple[Array, Array]:
    """
    Give the label each row's answer names, and how sure the model says it is.

    Args:
        outputs: "row …" arrays. The first floating-point one with two columns or more names the class by its largest value;
            without one, the first of integers is the label.
        rows: How many.

    Returns:
        "row" int64, `NO_ANSWER` where there is no label; "row" float32, the largest value where a row of them adds up to
        one, else NaN.
    """
    for output in outputs:
        if output.dtype.kind == "f" and output.ndim == 2 and output.shape[1] > 1 and len(output) == rows:
            answers = output.argmax(axis=1).astype(np.int64)
            with np.errstate(over="ignore", invalid="ignore"):  # sums of what is large or not finite, which are not one
                sums = output.sum(axis=1, dtype=np.float64)
            sure = (np.abs(sums - 1) < 1e-3) & (output.min(axis=1) >= 0)
            return answers, np.where(sure, output[np.arange(rows), answers], np.nan).astype(np.float32)
    unsure = np.full(rows, np.nan, np.float32)
    for output in outputs:
        if output.dtype.kind in "iu" and output.size == rows and len(output) == rows:
            return output.reshape(rows).astype(np.int64), unsure
    return np.full(rows, NO_ANSWER, np.int64), unsure
