"""
The drift reference of a run: what its first evaluation set looks like, and what the exact file answers to it.

The first set is the one that looks like production; the others are harder on purpose. Confidence is calibrated on the labelled rows
of all of them, so that it is known for hard rows too.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lastgood.monitoring.drift.profile import Profile, calibrate_answers, make_profile
from lastgood.pipelines.data import Array
from lastgood.pipelines.evaluation import Evaluation
from lastgood.runtime import open_session, read_signature

MOST_ROWS = 20_000  # evenly taken; more would tell sampling error from drift no better than is tolerated anyway
_BATCH = 256


def write_reference(model: Path, evaluation: Evaluation, out: Path) -> Profile:
    """
    Write the profile of a model file.

    The bytes depend on the model and the rows only.

    Args:
        model: The exact ONNX file that will be served; one input.
        evaluation: The run's sets, the ordinary one first.
        out: Where to write.
    """
    session = open_session(model)
    inputs, _ = read_signature(session)
    taken = inputs[0].name
    first = next(iter(evaluation.sets.values()))
    rows = np.unique(np.linspace(0, len(first.y) - 1, MOST_ROWS).astype(np.int64))
    x = first.x[rows]
    profile = make_profile(
        {taken: x},
        _answer(session, taken, x),
        times=None if first.times is None else first.times[rows],
        rows=len(np.unique(first.groups[rows])),
    )
    pooled = np.concatenate([own.x for own in evaluation.sets.values()])
    independent = len(np.unique(evaluation.groups)) / len(evaluation.groups)
    calibration = calibrate_answers(
        profile.plan, _answer(session, taken, pooled), evaluation.y, ordinary=len(first.y), independent=independent
    )
    profile = replace(profile, calibration=calibration)
    out.parent.mkdir(exist_ok=True)
    out.write_bytes(profile.to_bytes())
    return profile


def _answer(session: Any, taken: str, x: Array) -> dict[str, Array]:
    """Give every output for all rows, in batches: the answers of a batch are not to depend on how many rows there are."""
    names = [own.name for own in session.get_outputs()]
    parts = [session.run(names, {taken: x[start : start + _BATCH]}) for start in range(0, len(x), _BATCH)]
    return {name: np.concatenate(own) for name, own in zip(names, zip(*parts, strict=True), strict=True)}
