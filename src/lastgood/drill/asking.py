"""Somebody who asks a gateway one request at a time, knows the right answer, and says so where that is wanted."""

import itertools
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import httpx
import numpy as np

from lastgood.drill.faults import Fault
from lastgood.drill.models import is_bold
from lastgood.serving.client import Predictor
from lastgood.settings import Settings

Array = np.ndarray[Any, Any]
SLICE: Final = "bold"
_PIXELS: Final = 64  # what else a row has behind them is no part of the image


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request."""

    usable: bool  # status 200
    version: int | None  # that computed it
    right: bool  # the largest number is at the label's place


@dataclass(frozen=True)
class Questions:
    """Rows and their labels, asked for again and again: x "row feature" float32, y "row" int64."""

    x: Array
    y: Array
    input_name: str = "input"

    def changed(self, x: Array) -> "Questions":
        """Give the same with other rows."""
        return Questions(x, self.y, self.input_name)


class Asker:
    """A lone caller of one model."""

    def __init__(self, settings: Settings, model: str, questions: Questions, fault: Fault, *, traffic: str | None = None) -> None:
        """
        Prepare; nothing is sent yet.

        Args:
            settings: Where the gateway is.
            model: Whom to ask.
            questions: What to ask.
            fault: Says whether labels are sent, and how many requests per second.
            traffic: A label that sets these requests apart in the metrics.
        """
        self._predictor = Predictor(settings, traffic=traffic)
        self._model = model
        self._fault = fault
        self._due = 0.0
        self.use(questions)

    def __enter__(self) -> Self:
        """Give the caller; leaving closes its connection."""
        self._predictor.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connection."""
        self._predictor.__exit__(kind, error, trace)

    def use(self, questions: Questions) -> None:
        """Ask these from now on, from the first one."""
        shape = [1, *questions.x.shape[1:]]
        self._inputs = [
            [{"name": questions.input_name, "datatype": "FP32", "shape": shape, "data": row.ravel().tolist()}] for row in questions.x
        ]
        self._labels = questions.y.tolist()
        self._bold = is_bold(questions.x[:, :_PIXELS]).tolist()
        self._turns = itertools.cycle(range(len(self._labels)))

    def ask(self) -> Answer:
        """
        Ask the next question; where the fault is found by labels, say what would have been right.

        Raises:
            UnavailableError: Nobody answers, or labels are not taken.
        """
        self._wait_for_turn()
        index = next(self._turns)
        part = SLICE if self._fault.labels and self._bold[index] else None
        response = self._predictor.send(self._model, self._inputs[index], part=part)
        if not response.is_success:
            return Answer(usable=False, version=_read_version(response), right=False)
        body = response.json()
        numbers, label = body["outputs"][0]["data"], self._labels[index]
        if self._fault.labels:
            self._predictor.feed_back(self._model, {body["id"]: label})
        return Answer(usable=True, version=int(body["model_version"]), right=numbers.index(max(numbers)) == label)

    def _wait_for_turn(self) -> None:
        if self._fault.per_second is not None:
            now = time.monotonic()
            time.sleep(max(0.0, self._due - now))
            self._due = max(self._due, now) + 1 / self._fault.per_second


def _read_version(response: httpx.Response) -> int | None:
    text = response.headers.get("x-lastgood-version", "")
    return int(text) if text.isascii() and text.isdigit() else None
