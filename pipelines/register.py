"""The last step: make the exact file that the gate passed an immutable version, with examples of its answers and a drift reference."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lastgood.errors import IntegrityError
from lastgood.pipelines.compress import COMPRESS_RESULT, CompressResult
from lastgood.pipelines.compress import STEP as COMPRESS
from lastgood.pipelines.errors import GateRefusedError
from lastgood.pipelines.evaluation import Evaluation, load_evaluation
from lastgood.pipelines.gate import STEP as GATE
from lastgood.pipelines.gate import VERDICT, GateVerdict, explain_refusal
from lastgood.pipelines.kept_weights import WEIGHTS
from lastgood.pipelines.progress import OnProgress, Progress, ignore_progress
from lastgood.pipelines.reference import write_reference
from lastgood.pipelines.run import Run, note_changes
from lastgood.pipelines.train import EVALUATION, RESULT, TrainResult
from lastgood.pipelines.train import STEP as TRAIN
from lastgood.pipelines.update import RECORDED, read_taken
from lastgood.registry import golden
from lastgood.registry.content import Content, FileEntry, Golden, Record
from lastgood.registry.registry import Registry
from lastgood.registry.rows import Version
from lastgood.runtime import open_session, read_signature
from lastgood.tensors import TensorSpec

STEP = "register"
REGISTERED = "register.json"
DRIFT = "drift.npz"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
GOLDEN_ROWS = 16  # or more: a few of every evaluation set
GOLDEN_RTOL, GOLDEN_ATOL = 1e-3, 1e-3  # another CPU's kernels may round otherwise; int8 in steps of a scale


@dataclass(frozen=True, slots=True)
class Registered:
    """The version that a run became; register.json."""

    model: str
    number: int
    digest: str
    new: bool


def register(run: Run, registry: Registry, on_progress: OnProgress = ignore_progress) -> Version:
    """
    Register what the gate passed.

    Args:
        run: With a verdict.
        registry: Where.
        on_progress: Is told how far it is.

    Returns:
        The version; the one that exists where the model has this content already.

    Raises:
        StepOrderError: The gate has not run.
        GateRefusedError: The gate said no, or passed other bytes than the file has now.
    """
    run = note_changes(run)
    trained = run.read(RESULT, TrainResult, step=TRAIN)
    compressed = run.read(COMPRESS_RESULT, CompressResult, step=COMPRESS)
    verdict = run.read(VERDICT, GateVerdict, step=GATE)
    model = compressed.find(run)
    if not verdict.passed:
        raise GateRefusedError(explain_refusal(verdict, run))
    if (actual := _hash(model)) != verdict.sha256:
        raise GateRefusedError(
            f"{model} has SHA-256 {actual[:16]}…, and the gate passed {verdict.sha256[:16]}…: "
            f"run `lastgood gate {run.model} --run {run.id}` again."
        )
    on_progress(Progress(STEP, "writing golden examples", 0.2))
    examples, reference = run.folder / "register" / "golden.npz", run.folder / "register" / DRIFT
    evaluation = load_evaluation(run.folder / EVALUATION)
    inputs, outputs = write_golden(model, evaluation, examples)
    on_progress(Progress(STEP, "profiling inputs and answers", 0.4))
    write_reference(model, evaluation, reference)
    files = {DRIFT: reference, "golden.npz": examples, "model.onnx": model}
    content = Content(
        files=tuple(FileEntry(path, files[path].stat().st_size, _hash(files[path])) for path in sorted(files)),
        inputs=inputs,
        outputs=outputs,
        batching=find_batching(inputs, outputs),
        golden=Golden("golden.npz", GOLDEN_RTOL, GOLDEN_ATOL),
        drift=DRIFT,
    )
    facts, update = run.facts, read_taken(run)
    record = Record(
        author=facts.author,
        why=facts.why,
        commit=facts.commit,
        dirty=facts.dirty,
        data=trained.data,
        seed=facts.seed,
        parent=facts.parent,
        parameters={**trained.parameters, "recipe": compressed.chosen, **({RECORDED: update.to_record()} if update else {})},
        metrics=verdict.metrics,
        libraries=facts.libraries,
        run=facts.run,
    )
    on_progress(Progress(STEP, "storing", 0.6))
    weights = run.folder / WEIGHTS  # none where the model cannot be continued
    kept = weights if weights.is_file() else None
    version = registry.register(run.model, content, files, record, actor=facts.author, weights=kept)
    run.write(REGISTERED, Registered(version.model, version.number, version.digest, version.new))
    on_progress(Progress(STEP, f"{version.model}@{version.number}{'' if version.new else ', which the model has already'}", 1.0))
    return version


def read_registered(run: Run) -> str:
    """
    Give the reference of the version that a run registered.

    Raises:
        StepOrderError: It has registered none.
    """
    version = run.read(REGISTERED, Registered, step=STEP)
    if version.model != run.model or not _DIGEST.fullmatch(version.digest):
        raise IntegrityError(f"{run.folder / REGISTERED} names {version.model}@{version.digest[:80]}; expected a digest of {run.model}.")
    return f"{version.model}@{version.digest}"


def write_golden(model: Path, evaluation: Evaluation, out: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """
    Write examples with the answers of the exact file, and give its inputs and outputs.

    The bytes depend on the model and the rows only: NumPy dates the entries of an archive alike.
    """
    session = open_session(model)
    inputs, outputs = read_signature(session)
    each = -(-GOLDEN_ROWS // len(evaluation.sets))
    rows = np.concatenate([own.x[_spread(len(own.x), each)] for own in evaluation.sets.values()])
    # Where the sets are small, rows are repeated: the examples are as many as promised.
    rows = np.resize(rows, (max(GOLDEN_ROWS, len(rows)), *rows.shape[1:]))
    answers = session.run([spec.name for spec in outputs], {inputs[0].name: rows})
    out.parent.mkdir(exist_ok=True)
    golden.write_golden(out, {inputs[0].name: rows}, {spec.name: value for spec, value in zip(outputs, answers, strict=True)})
    return inputs, outputs


def find_batching(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Literal[0] | None:
    """Give 0 when the first axis of every input and output may have any size: requests can be joined along it."""
    return 0 if all(spec.shape and spec.shape[0] == -1 for spec in (*inputs, *outputs)) else None


def _spread(rows: int, count: int) -> "np.ndarray[Any, Any]":
    return np.linspace(0, rows - 1, min(rows, count)).astype(np.int64)


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
