"""
The trace of a rollout: its counts after everything bad, so that its evidence can be drawn and judged again.

Bounded: where there are too many marks, every second of the older half is dropped. The last one is always whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from lastgood.errors import IntegrityError
from lastgood.monitoring.judge.paired import PairCounts, Pairs
from lastgood.monitoring.judge.verdict import NO_PAIRS, RoleCounts, StepCounts

MOST: Final = 256
_RECENT: Final = 3
_SPACING: Final = 5  # one bad answer in five, or fewer
_ROW: Final = 8  # bad answers of the candidate in a row
NAMES: Final = tuple(field.name for field in fields(RoleCounts))


@dataclass(frozen=True, slots=True)
class Mark:
    """What both roles had done in the step with this index (from 0) when something bad had happened, and the pairs of a shadow."""

    step: int
    candidate: RoleCounts
    baseline: RoleCounts
    pairs: Pairs = NO_PAIRS


def mark(marks: list[Mark], steps: Sequence[StepCounts], pairs: Pairs = NO_PAIRS) -> None:
    """Add the present counts, unless nothing bad was added since the last mark."""
    if not steps:
        return
    current = steps[-1]
    fresh = Mark(len(steps) - 1, current.candidate, current.baseline, pairs)
    last = marks[-1] if marks else Mark(fresh.step, RoleCounts(), RoleCounts())
    if last.step != fresh.step:
        last = Mark(fresh.step, RoleCounts(), RoleCounts(), last.pairs)
    if _noted(last) == _noted(fresh):
        return
    marks.append(fresh)
    if len(marks) > MOST:
        marks[: MOST // 2] = marks[: MOST // 2 : 2]


def comes_slowly(marks: Sequence[Mark]) -> bool:
    """
    Say whether the candidate's bad events come seldom: of its last answers, spanning three bad ones, at most one in five.

    It takes fewer requests to convict such a version at half of the traffic, and costs few more bad answers; for one that
    fails nearly always it is the other way round.
    """
    struck = [own for before, own in zip([None, *marks], marks, strict=False) if _adds_candidate(before, own)][-_RECENT:]
    if len(struck) < _RECENT:
        return False
    first, last = struck[0], struck[-1]
    if first.step != last.step:
        return last.candidate.batches >= _SPACING * sum(_bad(last.candidate))
    batches = last.candidate.batches - first.candidate.batches
    bad = sum(_bad(last.candidate)) - sum(_bad(first.candidate))
    return batches >= _SPACING * bad


def fails_always(marks: Sequence[Mark]) -> bool:
    """
    Say whether the candidate's last answers, eight or more, were all bad while none of the baseline's was.

    No proof, and it needs to be none: it only moves a suspect's share, which is valid at any time.
    """
    if not marks:
        return False
    last = first = marks[-1]
    for before in reversed(marks):
        if before.step != last.step or _bad_since(before, last) < last.candidate.batches - before.candidate.batches:
            break
        first = before
    answered = last.baseline.batches - first.baseline.batches
    return _bad_since(first, last) >= _ROW and answered > 0 and _bad(first.baseline) == _bad(last.baseline)


def steps_at(mark: Mark, steps: Sequence[StepCounts]) -> list[StepCounts]:
    """Give the counts as they were at a mark: the steps before as they ended, and its own as it was."""
    return [*steps[: mark.step], StepCounts(steps[mark.step].share, mark.candidate, mark.baseline)]


def write_marks(marks: Sequence[Mark]) -> dict[str, Any]:
    """Give the form a receipt keeps: names once, then a row of numbers for each mark."""
    rows = [[own.step, *asdict(own.candidate).values(), *asdict(own.baseline).values()] for own in marks]
    pairs = [[p.agreed, p.disagreed, p.labels.lost, p.labels.won, p.labels.tied] for p in (own.pairs for own in marks)]
    return {"names": list(NAMES), "rows": rows, "pairs": pairs if any(map(any, pairs)) else []}


def read_marks(value: Mapping[str, Any]) -> list[Mark]:
    """
    Read what `write_marks` wrote.

    Raises:
        IntegrityError: It is not that.
    """
    try:
        names, found = value["names"], []
        pairs = value.get("pairs") or [(0, 0, 0, 0, 0)] * len(value["rows"])
        for (step, *numbers), (agreed, disagreed, lost, won, tied) in zip(value["rows"], pairs, strict=True):
            candidate, baseline = (
                RoleCounts(**dict(zip(names, own, strict=True))) for own in (numbers[: len(names)], numbers[len(names) :])
            )
            found.append(Mark(step, candidate, baseline, Pairs(agreed, disagreed, PairCounts(lost, won, tied))))
    except (KeyError, TypeError, ValueError) as exc:
        raise IntegrityError(f"The trace of a rollout cannot be read: {exc!r}.") from exc
    return found


def _bad(role: RoleCounts) -> tuple[int, int, int]:
    return (role.broken, role.slow, role.deaths)


def _noted(own: Mark) -> tuple[int, ...]:
    roles = (own.candidate, own.baseline)
    return (*(count for role in roles for count in (*_bad(role), role.wrong)), own.pairs.disagreed, own.pairs.labels.lost)


def _bad_since(first: Mark, last: Mark) -> int:
    return sum(_bad(last.candidate)) - sum(_bad(first.candidate))


def _adds_candidate(before: Mark | None, own: Mark) -> bool:
    if before is None or before.step != own.step:
        return any(_bad(own.candidate))
    return _bad(before.candidate) != _bad(own.candidate)
