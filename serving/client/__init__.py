"""
Clients of a gateway: its control plane for the command line and flows, its data plane for whoever wants answers.

    Control          deploy, promote, roll back, watch
    Predictor        ask for answers, with numpy arrays
    AsyncPredictor   the same words, awaited

Those of the data plane are imported when they are first named: a rollback need not wait for numpy.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

from lastgood.serving.client.access import read_token
from lastgood.serving.client.control import Control
from lastgood.serving.client.errors import (
    AnswerBrokenOffError,
    BadAnswerError,
    ClientClosedError,
    DeadlineError,
    ForeignGatewayError,
    GatewayAwayError,
    ModelFailedError,
)
from lastgood.serving.client.retries import RetryPolicy

if TYPE_CHECKING:
    from lastgood.serving.client.answer import Answer
    from lastgood.serving.client.asynchronous import AsyncPredictor
    from lastgood.serving.client.predictor import Predictor

_LATER: Final = {"Answer": "answer", "AsyncPredictor": "asynchronous", "Predictor": "predictor"}

__all__ = [
    "Answer",
    "AnswerBrokenOffError",
    "AsyncPredictor",
    "BadAnswerError",
    "ClientClosedError",
    "Control",
    "DeadlineError",
    "ForeignGatewayError",
    "GatewayAwayError",
    "ModelFailedError",
    "Predictor",
    "RetryPolicy",
    "read_token",
]


def __getattr__(name: str) -> Any:
    """Import what is named for the first time."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    return value
