"""
Clients of a gateway: its control plane for the command line and flows, its data plane for whoever wants answers.

    Control          deploy, promote, roll back, watch
    Predictor        ask for answers, with numpy arrays
    AsyncPredictor   the same words, awaited
"""

from lastgood.serving.client.access import read_token
from lastgood.serving.client.answer import Answer
from lastgood.serving.client.asynchronous import AsyncPredictor
from lastgood.serving.client.control import Control
from lastgood.serving.client.errors import (
    AnswerBrokenOffError,
    BadAnswerError,
    DeadlineError,
    ForeignGatewayError,
    GatewayAwayError,
    ModelFailedError,
)
from lastgood.serving.client.predictor import Predictor
from lastgood.serving.client.retries import RetryPolicy

__all__ = [
    "Answer",
    "AnswerBrokenOffError",
    "AsyncPredictor",
    "BadAnswerError",
    "Control",
    "DeadlineError",
    "ForeignGatewayError",
    "GatewayAwayError",
    "ModelFailedError",
    "Predictor",
    "RetryPolicy",
    "read_token",
]
