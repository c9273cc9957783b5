"""Evaluation traffic: a run's evaluation rows as requests to the gateway, set apart from production by their label."""

import contextlib
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

from lastgood.errors import UnavailableError
from lastgood.pipelines.evaluation import load_evaluation
from lastgood.pipelines.logged_rows import EVALUATION_TRAFFIC
from lastgood.pipelines.run import Run
from lastgood.pipelines.train import EVALUATION
from lastgood.serving.client import GatewayAwayError, Predictor
from lastgood.settings import Settings

_PER_SECOND = 250.0
_TOLD_AT_ONCE = 50  # labels


class EvaluationTraffic:
    """
    Sends rows one at a time, round and round, from entering until leaving the context.

    It is real load with known answers, for a laptop or a staging gateway; it promotes versions like any other traffic. What the
    answers should have been is told as feedback, a little later, as labels come.
    """

    def __init__(self, settings: Settings, run: Run, *, per_second: float = _PER_SECOND) -> None:
        """
        Prepare.

        Args:
            settings: Where the gateway is.
            run: Whose evaluation rows to send.
            per_second: Requests per second at most.
        """
        first = next(iter(load_evaluation(run.folder / EVALUATION).sets.values()))
        self._rows = [make_inputs(run, row) for row in first.x[:2000]]
        self._labels = first.y[:2000].tolist()
        self._known: dict[str, int] = {}  # labels to be told, by the ids of the answers
        self._settings = settings
        self._model = run.model
        self._pause = 1 / per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, name="evaluation-traffic", daemon=True)
        self.statuses: Counter[str] = Counter()  # HTTP status, or "away"

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End with the request under way."""
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        with Predictor(self._settings, traffic=EVALUATION_TRAFFIC) as predictor:
            due = time.monotonic()
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                due = max(due + self._pause, time.monotonic())
                at = self.statuses.total() % len(self._rows)
                try:
                    response = predictor.send(self._model, self._rows[at])
                    status = str(response.status_code)
                    if response.is_success:
                        self._tell(predictor, response.json()["id"], self._labels[at])
                except GatewayAwayError:
                    status = "away"
                    self._stop.wait(0.2)  # nobody listens; the gateway may be starting again
                self.statuses[status] += 1

    def _tell(self, predictor: Predictor, key: str, label: int) -> None:
        self._known[key] = label
        if len(self._known) >= _TOLD_AT_ONCE:
            known, self._known = self._known, {}
            # A gateway that takes no labels now is asked for answers all the same.
            with contextlib.suppress(UnavailableError):
                predictor.feed_back(self._model, known)


def make_inputs(run: Run, row: Any) -> list[dict[str, Any]]:
    """Give one evaluation row, "feature…" float32, as the protocol's input tensors."""
    shape = [1, *row.shape]
    return [{"name": run.found.pipeline.input_name, "datatype": "FP32", "shape": shape, "data": row.ravel().tolist()}]
