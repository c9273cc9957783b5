"""The drill of inputs that change for both versions alike: nobody is to blame, somebody is to be told."""

import re
from typing import Final

import httpx
import numpy as np

from lastgood.drill.asking import Array, Asker, Questions
from lastgood.drill.course import Measured, send_until_decided
from lastgood.drill.faults import Fault
from lastgood.registry.rows import Version
from lastgood.serving.client import Control, read_token
from lastgood.settings import Settings

_SHIFT: Final = 0.35  # of each of 64 pixels between 0 and 1


def play_drift(
    settings: Settings, control: Control, asker: Asker, fault: Fault, bad: Version, questions: Questions
) -> tuple[Measured, bool]:
    """
    Ask brighter questions than the versions were trained on; give what was measured, and whether the drift was reported.

    Args:
        settings: Of the place.
        control: Its gateway.
        asker: Asks.
        fault: How many requests.
        bad: The candidate, which is as good as the baseline.
        questions: Those it was tested on.
    """
    asker.use(questions.changed(shift(questions.x)))
    measured = send_until_decided(control, asker, fault, bad)
    return measured, drift_is_reported(settings, bad.model)


def shift(x: Array) -> Array:
    """Give brighter images, "row 64" float32 in [0, 1]."""
    return np.clip(x + _SHIFT, 0, 1).astype(np.float32)


def drift_is_reported(settings: Settings, model: str) -> bool:
    """Say whether the gateway's metrics say that a model's inputs drifted."""
    token = read_token(settings.token_file)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    text = httpx.get(f"{settings.control_url}/metrics", headers=headers, timeout=10).text
    found = re.findall(rf'^lastgood_drift_alarms_total\{{[^}}]*model="{re.escape(model)}"[^}}]*\}} ([0-9.e+]+)$', text, re.MULTILINE)
    return any(float(value) > 0 for value in found)
