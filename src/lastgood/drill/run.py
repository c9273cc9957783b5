"""
One drill: two versions through the real gate and registry, a real gateway, and a fault that only production meets.

Requests are sent one at a time, so that their number is what a lone caller would see.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lastgood.drill.place import MODEL, copy_place, gateway_service
from lastgood.errors import TimedOutError
from lastgood.pipelines.deploy import find_policy
from lastgood.pipelines.evaluation import load_evaluation
from lastgood.pipelines.run import Run
from lastgood.pipelines.traffic import make_inputs
from lastgood.pipelines.train import EVALUATION
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.serving.client import Control, Predictor
from lastgood.settings import Settings
from lastgood.stack.processes import Stack

AFTER: Final = 200  # requests sent when the way back is done
MOST: Final = 2000  # requests after which a drill in which nothing is decided has failed
_WAIT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one drill measured."""

    fault: str
    requests_to_decision: int  # dealt since the bad version got its share, the deciding one included
    bad_answers: int  # of those, without a usable answer
    seconds_to_restored: float  # from the deciding request's answer until the gateway says who serves again
    failed_after_restore: int  # of 200 further requests
    restored: str  # reference of the version that serves again
    withdrawn: str
    event: str  # hash of the withdrawal's event
    receipt: dict[str, Any]


def drill(origin: Path, folder: Path, run: Run, versions: list[Version], fault: str) -> Outcome:
    """
    Release the second version, which meets the fault, beside the first, and measure the way back.

    Args:
        origin: The place with both versions registered.
        folder: Where this drill lives; it must not exist.
        run: Whose evaluation rows to send.
        versions: The good one and the one to be bad.
        fault: One of `lastgood.drill.replica.FAULTS`.

    Raises:
        TimedOutError: Nothing was decided after 2,000 requests.
    """
    good, bad = versions
    settings = copy_place(origin, folder)
    rows = load_evaluation(run.folder / EVALUATION).sets["clean"].x
    requests = itertools.cycle([make_inputs(run, row) for row in rows])
    with _gateway(settings, bad.digest, fault), Control(settings) as control, Predictor(settings) as predictor:
        _deploy(control, settings, predictor, good, requests, state="stable", strategy="direct")
        _deploy(control, settings, predictor, bad, requests, state="canary", strategy="canary")
        bad_answers, seconds, state = _send_until_decided(control, predictor, requests)
        restored = state["live"]
        answers = [predictor.send(MODEL, next(requests)) for _ in range(AFTER)]
        failed = sum(not (answer.is_success and answer.json()["model_version"] == str(restored["number"])) for answer in answers)
    with Registry.open(settings, writer="cli") as registry:
        event = next(found for found in registry.events(model=MODEL, newest_first=True) if found.kind == "withdrawn")
    receipt = event.payload["receipt"]
    return Outcome(
        fault=fault,
        requests_to_decision=receipt["tosses"],
        bad_answers=bad_answers,
        seconds_to_restored=seconds,
        failed_after_restore=failed,
        restored=f"{MODEL}@{restored['number']}",
        withdrawn=str(bad),
        event=event.hash,
        receipt=receipt,
    )


@contextmanager
def _gateway(settings: Settings, digest: str, fault: str) -> Iterator[None]:
    stack = Stack(settings.home)
    stack.start(gateway_service(settings, digest, fault))
    try:
        yield
    finally:
        stack.stop("gateway")


def _deploy(
    control: Control, settings: Settings, predictor: Predictor, version: Version, requests: Iterator[Any], *, state: str, strategy: str
) -> None:
    """Deploy a version and wait for a state; one that must become stable is sent the requests it needs."""
    policy = find_policy(settings, MODEL).model_dump(mode="json")
    control.deploy(f"{MODEL}@{version.number}", strategy=strategy, policy=policy, actor="drill", why="a drill")
    end = time.monotonic() + _WAIT_SECONDS
    for seen in control.watch(MODEL, seconds=_WAIT_SECONDS):
        if seen["rollout"]["state"] == state:
            return
        if seen["rollout"]["state"] == "soaking":
            for _ in range(30):
                predictor.infer(MODEL, next(requests))
        if time.monotonic() > end:
            break
    raise TimedOutError(f"{version} did not become {state} within {_WAIT_SECONDS:.0f} s: the drill did not begin.")


def _send_until_decided(control: Control, predictor: Predictor, requests: Iterator[Any]) -> tuple[int, float, dict[str, Any]]:
    bad_answers = 0
    for _ in range(MOST):
        bad_answers += not predictor.send(MODEL, next(requests)).is_success
        # After every answer: the baseline's good ones are evidence too, and may be what decides.
        began = time.monotonic()
        state = control.state(MODEL)
        if state["rollout"]["state"] == "withdrawn":
            return bad_answers, time.monotonic() - began, state
    raise TimedOutError(f"The bad version was not taken back within {MOST} requests, of which {bad_answers} had no usable answer.")
