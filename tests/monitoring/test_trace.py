"""The trace of a rollout: what is marked, what it says about how bad events come, and that it is bounded."""

import json

import pytest

from lastgood.errors import IntegrityError
from lastgood.monitoring.judge.trace import MOST, Mark, comes_slowly, fails_always, mark, read_marks, steps_at, write_marks
from lastgood.monitoring.judge.verdict import RoleCounts, StepCounts


def counted(candidate: str, baseline: str = "", share: float = 0.1) -> list[Mark]:
    """Mark a step whose answers end as written, good (.) or bad (x): all of the baseline's first."""
    marks: list[Mark] = []
    theirs = RoleCounts(len(baseline), len(baseline), failed=baseline.count("x"))
    for stop in range(1, len(candidate) + 1):
        ours = RoleCounts(stop, stop, failed=candidate[:stop].count("x"))
        mark(marks, [StepCounts(share, ours, theirs)])
    return marks


def test_only_what_is_bad_is_marked() -> None:
    """Good answers make no mark; a step without bad ones makes none."""
    assert 2 == len(counted("..x....x.."))
    assert [] == counted("......")


def test_one_bad_answer_in_five_comes_slowly_and_more_do_not() -> None:
    """Three bad answers are asked for: fewer say nothing about how often they come."""
    assert comes_slowly(counted("x....x....x"))
    assert not comes_slowly(counted("x.x.x.x.x"))
    assert not comes_slowly(counted("xxx"))
    assert not comes_slowly(counted("x......................x"))


def test_a_version_that_was_fine_and_fails_always_now_does_not_come_slowly() -> None:
    """What counts is the stretch of the last three bad answers, not the good ones before."""
    assert not comes_slowly(counted("." * 200 + "xxx"))


def test_eight_bad_answers_in_a_row_are_always_if_the_baseline_answered_well_meanwhile() -> None:
    """A good one among them, a bad one of the baseline's, or a silent baseline: not always."""
    marks = counted("." * 50 + "x" * 9)
    assert not fails_always(marks)  # the baseline answered nothing meanwhile
    last = marks[-1]
    answered = [*marks[:-1], Mark(0, last.candidate, RoleCounts(2, 2))]
    assert fails_always(answered)
    assert not fails_always([*marks[:-1], Mark(0, last.candidate, RoleCounts(2, 2, failed=1))])
    interrupted = counted("." * 50 + "xxxx.xxxxx")
    assert not fails_always([*interrupted[:-1], Mark(0, interrupted[-1].candidate, RoleCounts(2, 2))])
    assert not fails_always([])


def test_a_trace_is_bounded_and_keeps_its_end() -> None:
    """After thousands of bad events there are at most 256 marks, in order, the last ones whole."""
    marks = counted("x" * 3000)
    assert len(marks) <= MOST
    failed = [own.candidate.failed for own in marks]
    assert sorted(set(failed)) == failed
    assert list(range(3000 - 50, 3001))[-50:] == failed[-50:]


def test_a_trace_survives_a_trip_through_json_and_gives_the_counts_of_its_time() -> None:
    """Marks are as they were; the steps at a mark end with it."""
    steps = [StepCounts(0.1, RoleCounts(5, 5, failed=1), RoleCounts(50, 50)), StepCounts(0.5, RoleCounts(7, 7, failed=3), RoleCounts(7, 7))]
    marks = [Mark(0, RoleCounts(3, 3, failed=1), RoleCounts(30, 30)), Mark(1, RoleCounts(2, 2, failed=2), RoleCounts(1, 1, unsettled=1))]
    assert marks == read_marks(json.loads(json.dumps(write_marks(marks))))
    assert [steps[0], StepCounts(0.5, marks[1].candidate, marks[1].baseline)] == steps_at(marks[1], steps)


def test_something_else_is_refused() -> None:
    """A trace that was cut off says so."""
    with pytest.raises(IntegrityError, match="trace"):
        read_marks({"names": ["requests"], "rows": [[0, 1]]})
