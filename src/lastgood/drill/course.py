"""
One drill: two versions through the real gate and registry, a real gateway, and a fault that only production meets.

Requests are sent one at a time, so that their number is what a lone caller would see.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lastgood.drill.asking import Answer, Asker, Questions
from lastgood.drill.faults import Fault, tell_end
from lastgood.drill.place import MODEL, copy_place, gateway_service
from lastgood.drill.score import Outcome
from lastgood.errors import TimedOutError
from lastgood.pipelines.deploy import find_policy
from lastgood.pipelines.evaluation import load_evaluation
from lastgood.pipelines.run import Run
from lastgood.pipelines.train import EVALUATION
from lastgood.registry.events import Event
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.serving.client import Control
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.settings import Settings
from lastgood.stack.processes import Stack

AFTER: Final = 200  # requests sent when the way back is done
_WAIT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen until a version was taken back, or nothing was decided."""

    requests: int
    bad_answers: int
    seconds: float | None  # from the deciding answer until the gateway said who serves; None where nothing was decided
    state: dict[str, Any]  # of the model
    drift: bool = False  # whether drift was reported


def drill(origin: Path, folder: Path, run: Run, versions: list[Version], fault: Fault, *, seed: int = 0) -> Outcome:
    """
    Release the second version, which meets the fault, beside the first, and measure the way back.

    Args:
        origin: The place with both versions registered.
        folder: Where this drill lives; it must not exist.
        run: Whose evaluation rows to send.
        versions: The good one and the one to be bad.
        fault: What goes wrong.
        seed: Of what is random in it.

    Raises:
        TimedOutError: A version did not get as far as the drill needs.
        CannotPlayError: A program is missing here.
    """
    from lastgood.drill.drifting import play_drift
    from lastgood.drill.late import play_late

    good, bad = versions
    settings = copy_place(origin, folder)
    clean = load_evaluation(run.folder / EVALUATION).sets["clean"]
    questions = Questions(clean.x, clean.y, run.found.pipeline.input_name)
    switch = folder / "switch"
    with (
        _gateway(settings, bad.digest, fault, seed, switch),
        Control(settings) as control,
        Asker(settings, MODEL, questions, fault) as asker,
    ):
        policy = find_policy(settings, MODEL)
        deploy(control, asker, good, policy, state="stable", strategy="direct")
        for _ in range(fault.history):
            asker.ask()
        match fault.course:
            case "rollout":
                deploy(control, asker, bad, policy, state="canary", strategy="canary")
                measured = send_until_decided(control, asker, fault, bad)
            case "both":
                deploy(control, asker, bad, policy, state="canary", strategy="canary")
                measured = play_drift(settings, control, asker, fault, bad, questions)
            case "stable":
                deploy(control, asker, bad, policy, state="stable", strategy="direct")
                measured = play_late(settings, control, asker, fault, bad, switch.touch)
        return finish(settings, control, asker, fault, good, bad, measured, seed=seed)


def finish(
    settings: Settings, control: Control, asker: Asker, fault: Fault, good: Version, bad: Version, measured: Measured, *, seed: int
) -> Outcome:
    """Send what shows that the way back is done, and put what was measured beside what must be."""
    serves = measured.state["live"]
    wanted = {serves["number"]} if fault.expected.by is not None else {good.number, bad.number}
    answers = [asker.ask() for _ in range(AFTER)]
    failed = sum(not (own.usable and own.version in wanted) for own in answers)
    event = None
    if measured.seconds is not None:
        _await_record(control, bad)
        with Registry.open(settings, writer="cli") as registry:
            event = find_withdrawal(registry, bad)
    receipt = None if event is None else event.payload.get("receipt")
    by = None if event is None else str(measured.state["rollout"]["cause"])
    kind = None if receipt is None else receipt["verdict"]["kind"]
    found = tell_end(by, kind, drift=measured.drift)
    return Outcome(
        fault=fault.name,
        expected=str(fault.expected),
        found=found,
        requests_to_decision=measured.requests if receipt is None else receipt["tosses"],
        bad_answers=measured.bad_answers,
        seconds_to_restored=measured.seconds,
        failed_after_restore=failed,
        restored=f"{good.model}@{serves['number']}",
        withdrawn=None if event is None else str(bad),
        event=None if event is None else event.hash,
        receipt=receipt,
        passed=fault.expected.fits(by, kind, drift=measured.drift) and serves["number"] == good.number and not failed,
        seed=seed,
    )


def _await_record(control: Control, bad: Version) -> None:
    """Wait until the shared record has what was decided: a withdrawal is local first."""
    for _ in control.watch(bad.model, seconds=_WAIT_SECONDS):
        if not control.ping()["unrecorded"]:
            return
    raise TimedOutError(f"The withdrawal of {bad} was not recorded within {_WAIT_SECONDS:.0f} s.")


def find_withdrawal(registry: Registry, bad: Version) -> Event:
    """Give the last withdrawal of a version."""
    return next(
        event for event in registry.events(model=bad.model, newest_first=True) if event.kind == "withdrawn" and event.digest == bad.digest
    )


def deploy(control: Control, asker: Asker, version: Version, policy: RolloutPolicy, *, state: str, strategy: str) -> None:
    """
    Deploy a version and wait for a state; one that must become stable is sent the requests it needs.

    Raises:
        TimedOutError: It did not get there.
    """
    ref = f"{version.model}@{version.number}"
    control.deploy(ref, strategy=strategy, policy=policy.model_dump(mode="json"), actor="drill", why="a drill")
    end = time.monotonic() + _WAIT_SECONDS
    for seen in control.watch(version.model, seconds=_WAIT_SECONDS):
        if seen["rollout"]["state"] == state:
            return
        if seen["rollout"]["state"] == "soaking":
            for _ in range(30):
                asker.ask()
        if time.monotonic() > end:
            break
    raise TimedOutError(f"{version} did not become {state} within {_WAIT_SECONDS:.0f} s: the drill did not begin.")


def send_until_decided(control: Control, asker: Asker, fault: Fault, bad: Version) -> Measured:
    """Ask until the bad version is taken back, or for as many requests as the fault allows."""
    bad_answers = 0
    state: dict[str, Any] = {}
    for requests in range(1, fault.most_requests + 1):
        bad_answers += is_bad(asker.ask(), fault, bad)
        # After every answer: the baseline's good ones are evidence too, and may be what decides.
        began = time.monotonic()
        state = control.state(bad.model)
        if state["rollout"]["state"] == "withdrawn":
            return Measured(requests, bad_answers, time.monotonic() - began, state)
    return Measured(fault.most_requests, bad_answers, None, state)


def is_bad(answer: Answer, fault: Fault, bad: Version) -> bool:
    """Say whether an answer met the fault."""
    match fault.harm:
        case "unusable":
            return not answer.usable
        case "late":
            return not answer.usable or answer.version == bad.number
        case "wrong":
            return not answer.usable or (answer.version == bad.number and not answer.right)


@contextmanager
def _gateway(settings: Settings, digest: str, fault: Fault, seed: int, switch: Path) -> Iterator[None]:
    stack = Stack(settings.home)
    stack.start(gateway_service(settings, digest, fault.name, seed, switch))
    try:
        yield
    finally:
        stack.stop("gateway")
