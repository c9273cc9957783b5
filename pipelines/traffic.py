"""Evaluation traffic: a run's evaluation rows as requests to the gateway, set apart from production by their label."""

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

from lastgood.pipelines.evaluation import load_evaluation
from lastgood.pipelines.logged_rows import EVALUATION_TRAFFIC
from lastgood.pipelines.run import Run
from lastgood.pipelines.train import EVALUATION
from lastgood.serving.client import GatewayAwayError, Predictor
from lastgood.settings import Settings

_PER_SECOND = 250.0


class EvaluationTraffic:
    """
    Sends rows one at a time, round and round, from entering until leaving the context.

    It is real load with known answers, for a laptop or a staging gateway; it promotes versions like any other traffic.
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
                inputs = self._rows[self.statuses.total() % len(self._rows)]
                try:
                    status = str(predictor.send(self._model, inputs).status_code)
                except GatewayAwayError:
                    status = "away"
                    self._stop.wait(0.2)  # nobody listens; the gateway may be starting again
                self.statuses[status] += 1


def make_inputs(run: Run, row: Any) -> list[dict[str, Any]]:
    """Give one evaluation row, "feature…" float32, as the protocol's input tensors."""
    shape = [1, *row.shape]
    return [{"name": run.found.pipeline.input_name, "datatype": "FP32", "shape": shape, "data": row.ravel().tolist()}]
