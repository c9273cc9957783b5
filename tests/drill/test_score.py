"""What drills are scored by: expectations, quantiles, and the file for Prometheus."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lastgood.drill.asking import Answer
from lastgood.drill.course import is_bad
from lastgood.drill.faults import FAULTS, Expected, tell_end
from lastgood.drill.score import Outcome, summarize, write_metrics
from lastgood.registry.rows import Version


def make(requests: int = 40, *, passed: bool = True, seconds: float | None = 0.25) -> Outcome:
    end = tell_end("judge", "broken")
    return Outcome("dead", end, end, requests, 4, seconds, 0, "drill@1", "drill@2", "abc", None, passed)


@pytest.mark.parametrize(
    ("by", "kind", "fits"),
    [("judge", "broken", True), ("judge", "slow", False), ("alert", None, False), (None, None, False)],
)
def test_a_drill_passes_only_where_it_ended_as_it_must(by: str | None, kind: str | None, fits: bool) -> None:  # noqa: FBT001
    """By the right hand for the right reason; what must stay must not be withdrawn at all."""
    found = tell_end(by, kind)
    assert fits == (found == str(Expected("judge", "broken")))
    assert (by is None) == (found == str(Expected(None)))
    assert (by == "alert") == (found == str(Expected("alert")))
    assert found != str(Expected(None, drift=True))
    assert fits == Expected("judge", "broken").fits(by, kind) == Expected("judge", "deaths", also="broken").fits(by, kind)


def test_what_must_be_and_what_was_found_are_said_alike() -> None:
    """So that a person can compare them."""
    assert "withdrawn by the judge: broken" == str(FAULTS["dead"].expected) == tell_end("judge", "broken")
    assert "not withdrawn, drift reported" == str(FAULTS["drift"].expected)
    assert "withdrawn by an alert" == str(FAULTS["stable"].expected)


def test_an_answer_is_bad_as_its_fault_has_it() -> None:
    """Without an answer; late, which all of the bad version's are; or wrong, if it is the bad version's."""
    bad = Version("drill", 2, "sha256:" + "a" * 64, datetime.now(UTC), "drill")
    versions = [Answer(usable=True, version=number, right=False) for number in (1, 2)]
    assert [False, False] == [is_bad(own, FAULTS["dead"], bad) for own in versions]
    assert [False, True] == [is_bad(own, FAULTS["slow"], bad) for own in versions]
    assert [False, True] == [is_bad(own, FAULTS["wrong"], bad) for own in versions]
    assert is_bad(Answer(usable=False, version=None, right=False), FAULTS["dead"], bad)


def test_the_summary_has_median_ninety_fifth_percentile_and_most() -> None:
    """Of what was measured; a drill that decided nothing has no seconds."""
    summary = summarize([make(index) for index in range(1, 101)])
    assert {"median": 50.5, "p95": 95.05, "most": 100.0} == summary["requests_to_decision"]
    assert (100, 100) == (summary["runs"], summary["passed"])
    assert summarize([make(passed=False, seconds=None)])["seconds_to_restored"] is None


def test_metrics_are_what_prometheus_reads(tmp_path: Path) -> None:
    """One file, replaced at once, with gauges only."""
    file = tmp_path / "drill.prom"
    file.write_text("old", "utf-8")
    write_metrics([make(40), make(60, passed=False)], file)
    families = {family.name: family for family in text_string_to_metric_families(file.read_text("utf-8"))}
    assert {"gauge"} == {family.type for family in families.values()}
    values = {(s.name, s.labels.get("quantile")): s.value for family in families.values() for s in family.samples}
    assert 50.0 == values["lastgood_drill_requests_to_decision", "0.5"]
    assert 60.0 == values["lastgood_drill_requests_to_decision", "1"]
    assert (2.0, 1.0) == (values["lastgood_drill_runs", None], values["lastgood_drill_passed", None])
    assert [file] == list(tmp_path.iterdir())
