"""The gate's conditions."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.errors import ConfigurationError
from lastgood.pipelines.conditions import Condition, Measurements, Score, examine, passes
from lastgood.pipelines.gate_settings import GateSettings, read_gate
from lastgood.pipelines.noninferiority import Paired

GOOD = Measurements(
    sets={"clean": Score(3000, 2950), "noisy": Score(3000, 2880)},
    slices={"small": Score(500, 480), "rare": Score(40, 40)},
    commonest=0.5,
    fp32=Score(6000, 5840),
    agreement=0.99,
    p95_seconds=100e-6,
    bytes=10_000,
    live="digits@3",
    paired=Paired(6000, 30, 32),
)
STRICT = GateSettings(
    accuracy_floor=0.95, set_floors={"clean": 0.95}, slice_floor=0.9, max_p95_seconds=1e-3, max_bytes=100_000, required_slices=("small",)
)


def by_name(settings: GateSettings, measured: Measurements) -> dict[str, Condition]:
    return {own.name: own for own in examine(settings, measured)}


def test_good_numbers_pass() -> None:
    """A version that keeps every limit passes every required condition."""
    assert passes(examine(STRICT, GOOD))


@st.composite
def worse(draw: st.DrawFn, measured: Measurements) -> Measurements:
    """Give the same measurements with some of them worse."""

    def lower(score: Score) -> Score:
        return Score(score.rows, draw(st.integers(0, score.right)))

    paired = measured.paired
    assert paired is not None
    lost = draw(st.integers(paired.lost, paired.rows - paired.won))
    return replace(
        measured,
        sets={name: lower(score) for name, score in measured.sets.items()},
        slices={name: lower(score) for name, score in measured.slices.items()},
        agreement=draw(st.floats(0, measured.agreement)),
        p95_seconds=draw(st.floats(measured.p95_seconds, 1.0)),
        bytes=draw(st.integers(measured.bytes, 10**9)),
        paired=replace(paired, lost=lost),
    )


@given(st.data())
def test_the_gate_never_improves_when_a_measurement_worsens(data: st.DataObject) -> None:
    """No condition goes from failed to passed, and no refusal turns into a pass, when numbers only get worse."""
    middling = data.draw(worse(GOOD))
    lower = data.draw(worse(middling))
    before, after = by_name(STRICT, middling), by_name(STRICT, lower)
    assert before.keys() == after.keys()
    for name, condition in after.items():
        assert not (condition.status == "passed" and before[name].status != "passed"), name
    assert passes(tuple(before.values())) or not passes(tuple(after.values()))


def test_an_empty_evaluation_set_is_no_data_and_never_passes() -> None:
    """Without rows the gate has no data, and without data it does not pass."""
    empty = replace(GOOD, sets={"clean": Score(3000, 2950), "noisy": Score(0, 0)})
    assert by_name(STRICT, empty)["accuracy on noisy"].status == "no data"
    assert not passes(examine(STRICT, empty))


def test_no_rows_at_all_never_pass() -> None:
    """A gate with nothing to measure on refuses."""
    nothing = replace(GOOD, sets={}, slices={}, fp32=Score(0, 0), paired=None, live=None)
    assert not passes(examine(GateSettings(), nothing))
    assert not passes(())


def test_a_slice_of_few_rows_does_not_decide_unless_it_is_required() -> None:
    """Under 100 rows a slice is no data: it refuses only where the settings need it."""
    shown = by_name(STRICT, GOOD)["slice rare"]
    assert (shown.status, shown.required) == ("no data", False)
    required = STRICT.model_copy(update={"required_slices": ("rare",)})
    assert not passes(examine(required, GOOD))


def test_a_required_slice_that_nobody_made_refuses() -> None:
    """A slice the settings name and slices() does not give has no data."""
    assert not passes(examine(STRICT.model_copy(update={"required_slices": ("missing",)}), GOOD))


def test_the_first_release_is_compared_with_nothing_and_says_so() -> None:
    """Without a live version the comparison is no data that nobody required."""
    first = replace(GOOD, live=None, paired=None)
    shown = by_name(STRICT, first)["loss against live"]
    assert (shown.status, shown.required) == ("no data", False)
    assert passes(examine(STRICT, first))


def test_a_live_version_that_cannot_answer_refuses() -> None:
    """Where there is a live version, its silence never passes the comparison."""
    silent = replace(GOOD, paired=None, live_problem="it takes other inputs")
    assert by_name(STRICT, silent)["loss against live"].status == "no data"
    assert not passes(examine(STRICT, silent))
    assert passes(examine(STRICT.model_copy(update={"max_loss_vs_live": None}), silent))


def test_without_a_floor_the_commonest_label_is_the_one_to_beat() -> None:
    """A model that answers one label always does not pass a gate without settings."""
    lazy = replace(GOOD, sets={"all": Score(6000, 3000)}, fp32=Score(6000, 3000), paired=Paired(6000, 0, 0))
    assert by_name(GateSettings(), lazy)["accuracy"].status == "failed"


def test_few_rows_are_compared_with_a_wider_margin_that_is_said() -> None:
    """The sentence names the margin that was widened."""
    few = replace(GOOD, paired=Paired(1250, 3, 3))
    shown = by_name(STRICT, few)["loss against live"]
    assert shown.asked == pytest.approx(0.02)
    assert "widened" in shown.sentence


def test_the_projects_gate_wins_over_the_pipelines() -> None:
    """A condition in lastgood.toml replaces the pipeline's, and leaves the others."""
    joined = read_gate(GateSettings(accuracy_floor=0.9, max_bytes=10), {"accuracy_floor": 0.8}, model="digits")
    assert (joined.accuracy_floor, joined.max_bytes) == (0.8, 10)


def test_an_unknown_condition_is_named() -> None:
    """A typing error in a gate is an error, not a condition that is silently left out."""
    with pytest.raises(ConfigurationError, match=r"acuracy_floor.*Known: accuracy_floor"):
        read_gate({}, {"acuracy_floor": 0.8}, model="digits")
