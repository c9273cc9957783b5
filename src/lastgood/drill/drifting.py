"""The drill of inputs that change for both versions alike: nobody is to blame, somebody is to be told."""

from dataclasses import replace
from typing import Final

import numpy as np

from lastgood.drill.asking import Array, Asker, Questions
from lastgood.drill.course import Measured, send_until_decided
from lastgood.drill.faults import Fault
from lastgood.pipelines.drifted import read_drift
from lastgood.registry.rows import Version
from lastgood.serving.client import Control
from lastgood.settings import Settings

_LOOK_EVERY: Final = 20  # requests
_CALMING: Final = 6_000  # requests after which drift must be over
_PIXELS: Final = 64
_SHIFT: Final = 0.35  # of each of 64 pixels between 0 and 1


def play_drift(settings: Settings, control: Control, asker: Asker, fault: Fault, bad: Version, questions: Questions) -> Measured:
    """
    Ask brighter questions than the versions were trained on, until that is reported, and then as long as the fault has it.

    Args:
        settings: Of the place.
        control: Its gateway.
        asker: Asks.
        fault: How many requests.
        bad: The candidate, which is as good as the baseline.
        questions: Those it was tested on.
    """
    calm_down(settings, asker, questions, bad.model)  # what an earlier drill left
    asker.use(questions.changed(shift(questions.x)))
    reported = None
    for requests in range(1, fault.most_requests + 1):
        asker.ask()
        if requests % _LOOK_EVERY == 0:
            found = read_drift(settings, bad.model)
            if found is not None and found.found:
                reported = requests
                break
    # Told or not: it goes on, and nobody may be blamed for it.
    measured = send_until_decided(control, asker, fault, bad)
    return replace(measured, requests=reported or measured.requests, drift=reported is not None)


def calm_down(settings: Settings, asker: Asker, questions: Questions, model: str) -> bool:
    """Ask ordinary questions until no drift is reported any more; give whether that is so. Nobody is to be told of a drill's drift."""
    asker.use(questions)
    for requests in range(_CALMING):
        if requests % _LOOK_EVERY == 0:
            found = read_drift(settings, model)
            if found is None or not found.found:
                return True
        asker.ask()
    return False


def shift(x: Array) -> Array:
    """Give brighter images, "row 64…" float32 in [0, 1]; what comes after the pixels stays."""
    changed = x.copy()
    changed[:, :_PIXELS] = np.clip(x[:, :_PIXELS] + _SHIFT, 0, 1)
    return changed
