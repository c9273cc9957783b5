"""
A drill on the live stack, with a model of its own: nobody's model is touched, and what was begun is ended.

The gateway is the product's own, so the fault lies in the version's file. Nothing is gated: what is shown is what comes after.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from lastgood.drill.asking import Asker
from lastgood.drill.course import deploy, finish, send_until_decided
from lastgood.drill.drifting import calm_down, play_drift
from lastgood.drill.faults import Fault
from lastgood.drill.graphs import load_marked, mark_questions, write_graph
from lastgood.drill.late import CannotPlayError, play_late
from lastgood.drill.pipeline import Drill
from lastgood.drill.place import MODEL
from lastgood.drill.score import Outcome
from lastgood.errors import ConflictError
from lastgood.pipelines.data import Data
from lastgood.pipelines.evaluation import Evaluation, EvaluationSet
from lastgood.pipelines.reference import write_reference
from lastgood.pipelines.register import GOLDEN_ATOL, GOLDEN_RTOL, find_batching, write_golden
from lastgood.registry.content import Content, FileEntry, Golden, Record
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.serving.client import Control
from lastgood.serving.rollout.policy import read_policy
from lastgood.settings import Settings
from lastgood.stack.processes import Stack

ACTOR: Final = "drill"
TRAFFIC: Final = "drill"


def check_here(settings: Settings, fault: Fault) -> str:
    """
    Make sure, before anybody is asked, that a drill can be played on the live stack; give what answers there.

    Raises:
        CannotPlayError: The fault cannot lie in a file, or what would find it does not run.
        ConflictError: Somebody else has a model of this name, or a rollout of it runs.
        GatewayAwayError: No gateway answers.
    """
    if not fault.here:
        raise CannotPlayError(
            f"{fault.name!r} cannot be played on the live stack: {fault.does}, and no ONNX file does that. Without --here it can."
        )
    if fault.course == "stable" and any(Stack(settings.home).running(name) is None for name in ("prometheus", "alertmanager")):
        raise CannotPlayError(f"{fault.name!r} is found by Prometheus and Alertmanager, and they do not run here: lastgood up.")
    with Registry.open(settings, writer="cli") as registry:
        foreign = [own for own in (registry.versions(MODEL) if MODEL in registry.models() else []) if own.created_by != ACTOR]
    if foreign:
        raise ConflictError(f"{foreign[0]} was registered by {foreign[0].created_by}: a model named {MODEL!r} is here that is no drill's.")
    with Control(settings) as control:
        running = [state for state in control.routes() if state["model"] == MODEL and state["progress"]]
    if running:
        raise ConflictError(f"A rollout of {MODEL} runs already: another drill? Wait, or: lastgood rollback {MODEL} -m WHY.")
    return settings.rest_url


def drill_here(settings: Settings, fault: Fault, *, seed: int = 0) -> Outcome:
    """
    Release a bad version of the model ``drill`` on the live stack, and measure the way back.

    Raises:
        TimedOutError: A version did not get as far as the drill needs.
        LastgoodError: As `check_here`, and whatever the gateway says.
    """
    check_here(settings, fault)
    plain, marked = load_marked()
    policy = read_policy({**Drill.rollout, "freeze_after": 1_000_000}, source="the drill")  # it is not the drills that need a person
    with Registry.open(settings, writer="cli") as registry:
        good = _register(registry, plain, marked, "", why="the good version of drills")
        harm = "" if fault.course == "both" else fault.name
        bad = _register(registry, plain, marked, harm, why=f"a drill: {fault.does}", strength=0.5, nonce=True)
    calm = mark_questions(plain, "", seed=seed)
    with Control(settings) as control, Asker(settings, MODEL, calm, fault, traffic=TRAFFIC) as asker, _ended(control, bad):
        if not _is_live(control, good):
            deploy(control, asker, good, policy, state="stable", strategy="direct")
        for _ in range(max(fault.history, 1)):
            asker.ask()
        struck = mark_questions(plain, fault.name, seed=seed)
        if fault.course == "stable":
            deploy(control, asker, bad, policy, state="stable", strategy="direct")
            measured = play_late(settings, control, asker, fault, bad, lambda: asker.use(struck))
        else:
            deploy(control, asker, bad, policy, state="canary", strategy="canary")
            if fault.course == "both":
                measured = play_drift(settings, control, asker, fault, bad, calm)
            else:
                asker.use(struck)
                measured = send_until_decided(control, asker, fault, bad)
        outcome = finish(settings, control, asker, fault, good, bad, measured, seed=seed)
        calm_down(settings, asker, calm, MODEL)  # the marks are drift, too
        return outcome


def _is_live(control: Control, version: Version) -> bool:
    state = next((own for own in control.routes() if own["model"] == version.model), None)
    return state is not None and state["live"] is not None and state["live"]["digest"] == version.digest


@contextlib.contextmanager
def _ended(control: Control, bad: Version) -> Iterator[None]:
    """Take the drill's own candidate out at the end, however that comes; another one is not touched."""
    try:
        yield
    finally:
        state = next((own for own in control.routes() if own["model"] == bad.model), None)
        if state is not None and state["live"] is not None and state["live"]["digest"] == bad.digest:
            control.rollback(bad.model, to=None, keep=False, actor=ACTOR, why="the drill is over")
        else:
            control.rollback(bad.model, to=None, keep=False, actor=ACTOR, why="the drill is over", only=bad.digest)


def _register(
    registry: Registry, plain: Data, marked: Data, fault: str, *, why: str, strength: float = 1.0, nonce: bool = False
) -> Version:
    sets = {name: EvaluationSet(x, y, np.arange(len(y)), {}) for name, (x, y) in marked.evaluation.items()}
    evaluation = Evaluation(sets)
    with TemporaryDirectory(prefix="lastgood-drill-") as name:
        folder = Path(name)
        model, examples, reference = folder / "model.onnx", folder / "golden.npz", folder / "drift.bin"
        write_graph(model, plain, fault, strength=strength, nonce=nonce)
        inputs, outputs = write_golden(model, evaluation, examples)
        write_reference(model, evaluation, reference)
        files = {file.name: file for file in (reference, examples, model)}
        entries = tuple(
            FileEntry(path, files[path].stat().st_size, hashlib.sha256(files[path].read_bytes()).hexdigest()) for path in sorted(files)
        )
        golden = Golden(examples.name, GOLDEN_RTOL, GOLDEN_ATOL)
        content = Content(entries, inputs, outputs, find_batching(inputs, outputs), golden, reference.name)
        return registry.register(MODEL, content, files, Record(author=ACTOR, why=why), actor=ACTOR)
