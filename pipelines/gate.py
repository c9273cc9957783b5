"""The third step: test the exact file that would be registered, and say yes or no with numbers."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lastgood.compression.measure import measure_interleaved
from lastgood.pipelines.compress import COMPRESS_RESULT, CompressResult
from lastgood.pipelines.compress import STEP as COMPRESS
from lastgood.pipelines.conditions import Condition, Measurements, Score, examine, passes
from lastgood.pipelines.data import Array
from lastgood.pipelines.errors import GateRefusedError, IncomparableError
from lastgood.pipelines.evaluation import Evaluation, answer, check_same_inputs, load_evaluation, split_by_set
from lastgood.pipelines.noninferiority import compare_answers
from lastgood.pipelines.progress import OnProgress, Progress, ignore_progress
from lastgood.pipelines.run import Run, RunFacts
from lastgood.pipelines.train import EVALUATION, MODEL
from lastgood.registry.registry import Registry
from lastgood.render import Table
from lastgood.runtime import open_session, read_signature

STEP = "gate"
VERDICT, REPORT, JUNIT, SUMMARY = "gate/verdict.json", "gate/report.html", "gate/junit.xml", "gate/report.md"
REPORTS = (REPORT, JUNIT, SUMMARY)


@dataclass(frozen=True, slots=True)
class LiveModel:
    """The live version's file, to compare with: its name ("digits@7"), digest, and where its model lies."""

    name: str
    digest: str
    file: str


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """The gate's answer about one file; gate/verdict.json."""

    passed: bool
    sha256: str  # of the exact bytes that were tested
    recipe: str
    conditions: list[Condition]
    metrics: dict[str, float]
    live: str | None = None
    digest_of_live: str | None = None
    format: Literal["lastgood/verdict/1"] = "lastgood/verdict/1"
    settings: dict[str, Any] = field(default_factory=dict)


def fetch_live(run: Run, registry: Registry) -> LiveModel | None:
    """
    Copy the live version's files into the run folder, verified; None where nothing is live.

    Raises:
        IntegrityError: They are not what was registered.
    """
    alias = registry.aliases(run.model).get("live")
    if alias is None:
        return None
    folder = registry.materialize(alias.digest, run.folder / "gate" / "live" / alias.digest.removeprefix("sha256:")[:16])
    return LiveModel(f"{run.model}@{alias.number}", alias.digest, str(folder / registry.content(alias.digest).model))


def gate(run: Run, on_progress: OnProgress = ignore_progress, *, live: LiveModel | None) -> GateVerdict:
    """
    Test the run's chosen file; write verdict, report and JUnit file; refuse by raising.

    Args:
        run: With a compressed model.
        on_progress: Is told how far it is.
        live: From `fetch_live`; None at the first release.

    Raises:
        StepOrderError: It is not compressed.
        GateRefusedError: A required condition failed or had no data; everything is written nevertheless.
    """
    from lastgood.pipelines.gate_report import write_junit, write_report, write_summary

    compressed = run.read(COMPRESS_RESULT, CompressResult, step=COMPRESS)
    evaluation = load_evaluation(run.folder / EVALUATION)
    file = compressed.find(run)
    on_progress(Progress(STEP, "answering the evaluation rows", 0.1))
    labels = answer(open_session(file), evaluation)
    fp32 = answer(open_session(run.folder / MODEL), evaluation)
    on_progress(Progress(STEP, "measuring latency", 0.4))
    latency = measure_interleaved({"file": file}, evaluation.row, input_name=run.found.pipeline.input_name)["file"]
    on_progress(Progress(STEP, "comparing with the live version" if live else "nothing is live to compare with", 0.7))
    measured = _measure(evaluation, labels, fp32, file=file, p95_seconds=latency.p95_seconds, live=live, facts=run.facts)
    conditions = examine(run.gate_settings, measured)
    verdict = GateVerdict(
        passed=passes(conditions),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        recipe=compressed.chosen,
        conditions=list(conditions),
        metrics={**_list_metrics(measured), "p50_seconds": latency.p50_seconds},
        live=live.name if live else None,
        digest_of_live=live.digest if live else None,
        settings=run.gate_settings.model_dump(mode="json"),
    )
    run.write(VERDICT, verdict)
    write_junit(verdict, run, run.folder / JUNIT)
    write_summary(verdict, run, compressed, run.folder / SUMMARY)
    on_progress(Progress(STEP, "writing the report", 0.85))
    write_report(verdict, run, compressed, measured, count_confusion(evaluation.y, labels), run.folder / REPORT)
    on_progress(Progress(STEP, "passed" if verdict.passed else "refused", 1.0))
    if not verdict.passed:
        raise GateRefusedError(explain_refusal(verdict, run))
    return verdict


def explain_refusal(verdict: GateVerdict, run: Run) -> str:
    """Say which conditions refused, with their numbers."""
    refusing = [own for own in verdict.conditions if own.required and own.status != "passed"]
    reasons = " ".join(f"{own.name}: {own.sentence}" for own in refusing) or "No condition could be measured."
    return f"The gate refused run {run.id}. {reasons} Report: {run.folder / REPORT}"


def tabulate(verdict: GateVerdict) -> Table:
    """Give the conditions as a table."""
    rows = tuple((own.name, own.status if own.required else f"{own.status}, not required", own.sentence) for own in verdict.conditions)
    return Table("Gate passed" if verdict.passed else "Gate refused", ("condition", "answer", "measured"), rows)


def count_confusion(expected: Array, answered: Array) -> Array:
    """Give how often each label, "row", was answered as each label, "column": int64."""
    classes = int(max(expected.max(initial=0), answered.max(initial=0))) + 1
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (expected, answered), 1)
    return counts


def _measure(
    evaluation: Evaluation, labels: Array, fp32: Array, *, file: Path, p95_seconds: float, live: LiveModel | None, facts: RunFacts
) -> Measurements:
    right = labels == evaluation.y
    paired, problem, agreement = None, "", None
    if live is not None:
        try:
            live_labels = answer_live(live, evaluation, read_signature(open_session(file))[0])
            paired = compare_answers(right, live_labels == evaluation.y, evaluation.groups)
            agreement = float((labels == live_labels).mean())
        except IncomparableError as exc:
            problem = str(exc)
    return Measurements(
        sets={name: Score(len(own), int(own.sum())) for name, own in split_by_set(evaluation, right).items()},
        slices={name: Score(int(mask.sum()), int(right[mask].sum())) for name, mask in evaluation.slices.items()},
        commonest=float(np.bincount(evaluation.y).max() / len(evaluation.y)),
        fp32=Score(len(fp32), int((fp32 == evaluation.y).sum())),
        agreement=float((labels == fp32).mean()),
        p95_seconds=p95_seconds,
        bytes=file.stat().st_size,
        commit=facts.commit,
        dirty=facts.dirty,
        live=live.name if live else None,
        paired=paired,
        live_problem=problem,
        live_agreement=agreement,
    )


def answer_live(live: LiveModel, evaluation: Evaluation, inputs: tuple[Any, ...]) -> Array:
    """Give the live version's labels for every evaluation row, if it takes what the new one takes."""
    session = open_session(Path(live.file))
    check_same_inputs(read_signature(session)[0], inputs)
    return answer(session, evaluation)


def _list_metrics(measured: Measurements) -> Mapping[str, float]:
    """Give the numbers for the version's record; names say the unit."""
    return {
        "accuracy": measured.pooled.accuracy,
        **{f"accuracy.{name}": score.accuracy for name, score in measured.sets.items()},
        **{f"accuracy.slice.{name}": score.accuracy for name, score in measured.slices.items() if score.rows},
        "fp32_accuracy": measured.fp32.accuracy,
        "fp32_agreement": measured.agreement,
        **({} if measured.live_agreement is None else {"live_agreement": measured.live_agreement}),
        "p95_seconds": measured.p95_seconds,
        "size_bytes": float(measured.bytes),
        "evaluation_rows": float(measured.pooled.rows),
    }
