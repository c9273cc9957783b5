"""What drift means, as a table."""

from itertools import product

import pytest

from lastgood.monitoring.drift.estimate import AccuracyEstimate
from lastgood.monitoring.drift.meaning import Conclusion, Sighting, conclude, read_sighting
from lastgood.monitoring.drift.report import DriftReport, Moved

ALL = [Sighting(*flags) for flags in product((False, True), repeat=3)]
NOTHING, INPUTS, OUTPUTS, FELL = Sighting(), Sighting(inputs_moved=True), Sighting(outputs_moved=True), Sighting(accuracy_fell=True)
INPUTS_AND_OUTPUTS = Sighting(inputs_moved=True, outputs_moved=True)


@pytest.mark.parametrize(
    ("live", "baseline", "conclusion"),
    [
        (NOTHING, None, "none"),
        (INPUTS, None, "retrain"),
        (OUTPUTS, None, "retrain"),
        (INPUTS_AND_OUTPUTS, None, "retrain"),
        (NOTHING, NOTHING, "none"),
        (INPUTS, INPUTS, "none"),
        (INPUTS_AND_OUTPUTS, INPUTS_AND_OUTPUTS, "retrain"),
        (OUTPUTS, OUTPUTS, "retrain"),
        (FELL, OUTPUTS, "retrain"),
        (OUTPUTS, NOTHING, "suspect"),
        (FELL, NOTHING, "suspect"),
        (INPUTS_AND_OUTPUTS, INPUTS, "suspect"),
        (NOTHING, OUTPUTS, "none"),
        (INPUTS, INPUTS_AND_OUTPUTS, "none"),
    ],
)
def test_the_table(live: Sighting, baseline: Sighting | None, conclusion: Conclusion) -> None:
    """Each line as it was decided."""
    meaning = conclude(live, baseline)
    assert conclusion == meaning.conclusion
    assert meaning.why.endswith(".")


@pytest.mark.parametrize(("live", "baseline"), list(product(ALL, [None, *ALL])))
def test_only_a_candidate_that_is_hurt_alone_is_suspect(live: Sighting, baseline: Sighting | None) -> None:
    """Over all cases: what both roles suffer, or inputs alone, never puts a version under suspicion; without a rollout nothing does."""
    suspect = baseline is not None and live.hurt and not baseline.hurt
    assert suspect == (conclude(live, baseline).conclusion == "suspect")


@pytest.mark.parametrize("live", ALL)
def test_without_a_rollout_whatever_moved_asks_for_a_new_model(live: Sighting) -> None:
    """There is nothing to go back to that the same inputs would not meet."""
    assert ("none" if live == NOTHING else "retrain") == conclude(live).conclusion


def test_only_a_raised_alarm_is_a_sighting() -> None:
    """An estimate that is looked at after every row falls by chance now and then; beside an alarm it counts."""
    moved = (Moved("in/x[0]", "up", 1.0, 1.0, 100, 2.0),)
    accuracy = AccuracyEstimate(0.8, 0.78, 0.82, 1000, 0.9)

    def report(state: str) -> DriftReport:
        own = moved if state == "raised" else ()
        return DriftReport(state, 2.0, 1e5, 1000, False, False, None, None, None, None, own, accuracy)  # type: ignore[arg-type]

    assert Sighting(inputs_moved=True, accuracy_fell=True) == read_sighting(report("raised"))
    assert NOTHING == read_sighting(report("quiet")) == read_sighting(report("recovered"))
