"""The gate's conditions: numbers in, one answer per condition out. Three answers: passed, failed, no data."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lastgood.pipelines.gate_settings import GateSettings
from lastgood.pipelines.noninferiority import Paired, bound_loss, widen_margin

Status = Literal["passed", "failed", "no data"]
SLICE_ROWS = 100  # below this a slice's accuracy says too little to decide


@dataclass(frozen=True, slots=True)
class Condition:
    """
    One condition's answer.

    Attributes:
        name: Stable, as in reports and JUnit.
        status: ``no data`` is neither good nor bad, and never passes a required condition.
        required: Whether the gate needs it to pass.
        asked: The limit; None where nothing could be asked.
        measured: In the limit's unit; None without data.
        sentence: For a person.
    """

    name: str
    status: Status
    required: bool
    asked: float | None
    measured: float | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Score:
    """How many rows, and how many of them right."""

    rows: int
    right: int

    @property
    def accuracy(self) -> float:
        """Share right, 0 to 1; 0 without rows."""
        return self.right / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Measurements:
    """
    What was measured on the exact file.

    Attributes:
        sets: By evaluation set.
        slices: By slice, over all sets.
        commonest: Share of the commonest label, what a constant answer would have right.
        fp32: The float32 file on all rows.
        agreement: Share of rows with the float32 file's label.
        p95_seconds: One row at a time on this host.
        bytes: The file's size.
        commit: What the run was made from; None outside git.
        dirty: Whether files differed from that commit.
        live: Name of the live version; None at the first release.
        paired: Against the live version; None where it could not answer.
        live_problem: Why it could not.
        live_agreement: Share of rows with the live version's label; None where there is none.
    """

    sets: Mapping[str, Score]
    slices: Mapping[str, Score]
    commonest: float
    fp32: Score
    agreement: float
    p95_seconds: float
    bytes: int
    commit: str | None = None
    dirty: bool | None = None
    live: str | None = None
    paired: Paired | None = None
    live_problem: str = ""
    live_agreement: float | None = None
    pooled: Score = field(init=False)

    def __post_init__(self) -> None:
        """Pool the sets."""
        rows, right = sum(own.rows for own in self.sets.values()), sum(own.right for own in self.sets.values())
        object.__setattr__(self, "pooled", Score(rows, right))


def examine(settings: GateSettings, measured: Measurements) -> tuple[Condition, ...]:
    """Give every condition's answer, in the order a person reads them."""
    return (
        *_examine_accuracy(settings, measured),
        *_examine_slices(settings, measured),
        *_examine_compression(settings, measured),
        *_examine_live(settings, measured),
        *_examine_limits(settings, measured),
        *_examine_commit(settings, measured),
    )


def passes(conditions: tuple[Condition, ...]) -> bool:
    """Whether every required condition passed; without any, the gate does not pass."""
    required = [own for own in conditions if own.required]
    return bool(required) and all(own.status == "passed" for own in required)


def _examine_accuracy(settings: GateSettings, measured: Measurements) -> Iterator[Condition]:
    floor = settings.accuracy_floor
    if floor is None:
        yield _floor(
            "accuracy", measured.pooled, measured.commonest, why="what always answering the commonest label would get", strictly=True
        )
    else:
        yield _floor("accuracy", measured.pooled, floor)
    for name, score in measured.sets.items():
        if not score.rows:
            yield Condition(
                f"accuracy on {name}", "no data", required=True, asked=None, measured=None, sentence=f"The evaluation set {name} is empty."
            )
    for name, floor in settings.set_floors.items():
        yield _floor(f"accuracy on {name}", measured.sets.get(name, Score(0, 0)), floor)


def _examine_slices(settings: GateSettings, measured: Measurements) -> Iterator[Condition]:
    names = dict.fromkeys([*measured.slices, *settings.slice_floors, *settings.required_slices])
    for name in names:
        score = measured.slices.get(name, Score(0, 0))
        floor = settings.slice_floors.get(name, settings.slice_floor)
        required = name in settings.required_slices
        if score.rows < SLICE_ROWS and (required or floor is not None):
            sentence = f"Slice {name} has {score.rows} rows; {SLICE_ROWS} are needed to decide."
            yield Condition(f"slice {name}", "no data", required, floor, None, sentence)
        elif floor is not None:
            yield _floor(f"slice {name}", score, floor)
        elif required:
            yield _floor(f"slice {name}", score, 0.0)


def _examine_compression(settings: GateSettings, measured: Measurements) -> Iterator[Condition]:
    loss = (measured.fp32.right - measured.pooled.right) / measured.pooled.rows if measured.pooled.rows else None
    yield _limit("loss against float32", loss, settings.max_loss_vs_fp32, lambda value: f"{value * 100:.2f} points")
    agreement = measured.agreement if measured.pooled.rows else None
    if agreement is None:
        yield Condition(
            "agreement with float32", "no data", required=True, asked=settings.parity_floor, measured=None, sentence="There are no rows."
        )
        return
    good = agreement >= settings.parity_floor
    yield Condition(
        "agreement with float32",
        "passed" if good else "failed",
        required=True,
        asked=settings.parity_floor,
        measured=agreement,
        sentence=f"{agreement:.2%} of rows get the float32 file's label; at least {settings.parity_floor:.2%} asked.",
    )


def _examine_live(settings: GateSettings, measured: Measurements) -> Iterator[Condition]:
    name, asked = "loss against live", settings.max_loss_vs_live
    if asked is None:
        return
    if measured.live is None:
        sentence = "First release: there is no live version to compare with."
        yield Condition(name, "no data", required=False, asked=asked, measured=None, sentence=sentence)
        return
    if measured.paired is None or not measured.paired.rows:
        sentence = f"{measured.live} could not answer the evaluation rows: {measured.live_problem or 'there are none'}. "
        sentence += "To release without comparing, set the gate's max_loss_vs_live to null in the pipeline."
        yield Condition(name, "no data", required=True, asked=asked, measured=None, sentence=sentence)
        return
    paired = measured.paired
    margin = widen_margin(asked, paired.rows)
    bound = bound_loss(paired, settings.confidence)
    wider = f" (margin widened from {asked * 100:.2f} for {paired.rows} rows)" if margin > asked else ""
    sentence = (
        f"With {settings.confidence:.0%} confidence at most {bound * 100:.2f} points less accurate than {measured.live} "
        f"(measured {paired.loss * 100:+.2f}; of {paired.rows} rows {paired.lost} lost, {paired.won} won, design effect "
        f"{paired.design_effect:.1f}); margin {margin * 100:.2f} points{wider}. Method: Tango 1998, with Rao and Scott 1992 for copies."
    )
    yield Condition(name, "passed" if bound <= margin else "failed", required=True, asked=margin, measured=bound, sentence=sentence)


def _examine_limits(settings: GateSettings, measured: Measurements) -> Iterator[Condition]:
    if settings.max_p95_seconds is not None:
        yield _limit("p95", measured.p95_seconds, settings.max_p95_seconds, lambda value: f"{value * 1e6:.0f} µs")
    if settings.max_bytes is not None:
        yield _limit("size", float(measured.bytes), float(settings.max_bytes), lambda value: f"{value / 1024:.1f} KiB")


def _examine_commit(settings: GateSettings, measured: Measurements) -> Iterator[Condition]:
    if not settings.clean_tree:
        return
    if measured.commit is None or measured.dirty is None:
        sentence = "The run was made outside git: there is no commit it could be made from again."
        if measured.commit is not None:
            sentence = f"Git could not say whether files differ from commit {measured.commit[:12]}: try `git status`."
        yield Condition("clean tree", "no data", required=True, asked=None, measured=None, sentence=sentence)
        return
    changed = "with changes on top of" if measured.dirty else "exactly from"
    sentence = f"Made {changed} commit {measured.commit[:12]}."
    yield Condition("clean tree", "failed" if measured.dirty else "passed", required=True, asked=None, measured=None, sentence=sentence)


def _floor(name: str, score: Score, floor: float, *, why: str = "", strictly: bool = False) -> Condition:
    if not score.rows:
        return Condition(name, "no data", required=True, asked=floor, measured=None, sentence=f"No rows to measure {name} on.")
    good = score.accuracy > floor if strictly else score.accuracy >= floor
    asked = f"{'more than' if strictly else 'at least'} {floor:.2%} asked{f', {why}' if why else ''}"
    sentence = f"{score.accuracy:.2%} of {score.rows} rows right; {asked}."
    return Condition(name, "passed" if good else "failed", required=True, asked=floor, measured=score.accuracy, sentence=sentence)


def _limit(name: str, value: float | None, limit: float, show: Callable[[float], str]) -> Condition:
    if value is None:
        return Condition(name, "no data", required=True, asked=limit, measured=None, sentence=f"No rows to measure {name} on.")
    good = value <= limit
    return Condition(
        name,
        "passed" if good else "failed",
        required=True,
        asked=limit,
        measured=value,
        sentence=f"{show(value)}; at most {show(limit)} asked.",
    )
