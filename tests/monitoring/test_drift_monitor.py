"""The drift monitor: quiet where nothing drifts, soon where something does, and the same after a restart."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lastgood.errors import ConfigurationError
from lastgood.monitoring.drift.errors import ProfileDamagedError, RowsMismatchError
from lastgood.monitoring.drift.features import Array
from lastgood.monitoring.drift.monitor import DriftMonitor
from lastgood.monitoring.drift.profile import Profile, make_profile
from lastgood.monitoring.drift.report import DriftReport
from lastgood.monitoring.drift.settings import DriftSettings

DAY = 86_400
NO_RHYTHM = DriftSettings(rhythm="none")
FEATURES = 12


def draw(seed: int, rows: int, *, features: int = FEATURES) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, features), np.float32)


def by_day(times: Array, seed: int, *, amplitude: float = 1.0) -> Array:
    """Rows with a daily wave, a phase for each feature."""
    phases = np.arange(FEATURES)
    return np.asarray(draw(seed, len(times)) + amplitude * np.sin(2 * np.pi * times[:, None] / DAY + phases), np.float32)


@pytest.fixture(scope="module")
def profile() -> Profile:
    """A reference of 4,000 normal rows without times."""
    return make_profile({"x": draw(1, 4000)}, {})


@pytest.fixture(scope="module")
def daily_rows() -> tuple[Array, Array]:
    """Rows of a fortnight, and their times."""
    times = np.sort(np.random.default_rng(2).random(8000)) * 14 * DAY
    return by_day(times, 3), times


def watch(monitor: DriftMonitor, rows: Array, times: Any = 0.0, *, batch: int = 256) -> DriftReport:
    for start in range(0, len(rows), batch):
        own = times[start : start + batch] if isinstance(times, np.ndarray) else times
        monitor.observe({"x": rows[start : start + batch]}, {}, own)
    return monitor.report()


def shifted(rows: Array, by: float, feature: int = 3) -> Array:
    rows = rows.copy()
    rows[:, feature] += np.float32(by)
    return rows


def test_rows_like_the_reference_raise_no_alarm(profile: Profile) -> None:
    """100,000 of them."""
    report = watch(DriftMonitor(profile, NO_RHYTHM), draw(5, 100_000))
    assert ("quiet", 100_000) == (report.state, report.rows)
    assert report.evidence < 0.1
    assert "No drift in 100,000 rows." == report.sentence


@pytest.mark.parametrize("size", [200, 1000])
def test_a_small_reference_is_not_taken_for_the_truth(size: int) -> None:
    """Its mean is off by chance; taken as exact, an honest stream would be drift. That is why the null hypothesis is composite."""
    profile, rows = make_profile({"x": draw(7, size)}, {}), draw(8, 60_000)
    assert not watch(DriftMonitor(profile, NO_RHYTHM), rows).alarm
    exact = DriftSettings(rhythm="none", tolerated_sigma=0, margin_errors=0)
    assert watch(DriftMonitor(profile, exact), rows).raised_at is not None


@pytest.mark.parametrize("size", [1, 2, 3, 5, 10, 20, 50])
def test_a_reference_of_hardly_any_rows_knows_that_it_knows_little(size: int) -> None:
    """It raises no alarm where nothing drifts; what it can still find is another matter."""
    profile = Profile.from_bytes(make_profile({"x": draw(70, size)}, {}).to_bytes())
    assert watch(DriftMonitor(profile, NO_RHYTHM), draw(71, 20_000)).raised_at is None


@pytest.mark.parametrize(("by", "direction"), [(0.5, "up"), (-0.5, "down")])
def test_half_a_sigma_in_one_feature_is_found_named_and_measured(profile: Profile, by: float, direction: str) -> None:
    """With its direction, its size and about when it began."""
    monitor = DriftMonitor(profile, NO_RHYTHM)
    watch(monitor, draw(9, 2048), 1000.0)
    report = watch(monitor, shifted(draw(10, 640), by), 2000.0)
    assert report.alarm
    (moved,) = report.moved
    assert ("in/x[3]", direction) == (moved.feature, moved.direction)
    assert pytest.approx(by, abs=0.2) == moved.sigma
    assert 500 <= moved.rows <= 720
    assert report.raised_at == 2000.0
    assert report.since in {1000.0, 2000.0}
    assert report.inputs_moved
    assert not report.outputs_moved
    assert f"in/x[3] {direction} by 0." in report.sentence


@pytest.mark.parametrize(("factor", "direction"), [(1.8, "wider"), (0.4, "narrower")])
def test_a_change_of_scale_is_found_though_the_mean_stays(profile: Profile, factor: float, direction: str) -> None:
    """A sensor that has become noisy, and one that has gone dull."""
    rows = draw(11, 3000)
    rows[:, 5] *= np.float32(factor)
    (moved,) = watch(DriftMonitor(profile, NO_RHYTHM), rows).moved
    assert ("in/x[5]", direction) == (moved.feature, moved.direction)
    assert (moved.spread > 1) == (factor > 1)


def test_a_large_shift_is_found_within_four_blocks_and_a_burst_of_three_is_none(profile: Profile) -> None:
    """A feature in another unit is found in 64 requests; 48 requests of one customer who is unlike the others are not drift."""
    assert watch(DriftMonitor(profile, NO_RHYTHM), shifted(draw(12, 64), 1000.0)).alarm
    monitor = DriftMonitor(profile, NO_RHYTHM)
    for number in range(20):
        assert not watch(monitor, shifted(draw(12 + number, 48), 1000.0)).alarm
        assert not watch(monitor, draw(112 + number, 4000)).alarm


def test_single_wild_values_are_no_drift(profile: Profile) -> None:
    """One row in a thousand is infinite, huge or missing."""
    rows = draw(13, 50_000)
    rows[::1000, 0], rows[500::1000, 1], rows[250::1000, 2] = np.inf, -1e30, np.nan
    assert not watch(DriftMonitor(profile, NO_RHYTHM), rows).alarm


def test_many_missing_values_are_drift(profile: Profile) -> None:
    """The part of each row that is missing is watched."""
    rows = draw(14, 400)
    rows[::2, 4] = np.nan
    assert "in/x missing" == watch(DriftMonitor(profile, NO_RHYTHM), rows).moved[0].feature


def test_heavy_tails_and_categories_raise_no_alarm_and_hide_no_shift() -> None:
    """Cauchy values, a rare flag, categories: the scores are ranks, so the shape does not matter."""

    def make(seed: int, rows: int) -> Array:
        random = np.random.default_rng(seed)
        columns = (random.standard_cauchy(rows), random.random(rows) < 0.03, random.integers(0, 4, rows), np.full(rows, 7.0))
        return np.stack(columns, axis=1).astype(np.float32)

    profile = make_profile({"x": make(1, 4000)}, {})
    assert not watch(DriftMonitor(profile, NO_RHYTHM), make(2, 60_000)).alarm
    more = make(3, 1000)
    more[:, 1] = np.random.default_rng(4).random(1000) < 0.2
    assert "in/x[1]" == watch(DriftMonitor(profile, NO_RHYTHM), more).moved[0].feature
    assert "in/x[0]" == watch(DriftMonitor(profile, NO_RHYTHM), make(5, 1000) + np.array([1, 0, 0, 0], np.float32)).moved[0].feature


def test_the_answers_frequencies_and_confidence_are_watched() -> None:
    """A class that is given twice as often is found; the inputs are as before."""

    def answer(seed: int, rows: int, part: float) -> Array:
        random = np.random.default_rng(seed)
        sure = 0.6 + 0.4 * random.random(rows)
        second = random.random(rows) < part
        return np.where(second[:, None], np.stack((1 - sure, sure), 1), np.stack((sure, 1 - sure), 1)).astype(np.float32)

    profile = make_profile({"x": draw(1, 3000)}, {"p": answer(1, 3000, 0.2)})
    monitor = DriftMonitor(profile, NO_RHYTHM)
    monitor.observe({"x": draw(2, 30_000)}, {"p": answer(2, 30_000, 0.2)}, 0.0)
    assert not monitor.report().alarm
    monitor.observe({"x": draw(3, 600)}, {"p": answer(3, 600, 0.45)}, 0.0)
    report = monitor.report()
    assert report.outputs_moved
    assert not report.inputs_moved


def test_the_budget_is_the_familys() -> None:
    """The same rows beside more features that do nothing are proportionally less evidence: it is an average, not the largest."""
    rows, more = draw(15, 4000, features=1), draw(16, 4000, features=29)
    bad, good = draw(17, 200, features=1) + np.float32(0.6), draw(18, 200, features=29)
    far = DriftSettings(run_length=1e12, rhythm="none")  # nothing is capped
    alone = watch(DriftMonitor(make_profile({"x": rows}, {}), far), bad)
    profile = make_profile({"x": np.concatenate((rows, more), axis=1)}, {})
    beside = watch(DriftMonitor(profile, far), np.concatenate((bad, good), axis=1))
    # One and thirty features, and the part that is missing.
    assert alone.evidence * 2 == pytest.approx(beside.evidence * 31, rel=0.01)


def test_a_known_rhythm_is_no_drift_and_an_unknown_one_would_be(daily_rows: tuple[Array, Array]) -> None:
    """The same two days, with a reference that has times, and with one of which it is said that there is no rhythm."""
    rows, times = daily_rows
    now = 20 * DAY + np.arange(0, 2 * DAY, 4.0)
    stream = by_day(now, 21)
    known = DriftMonitor(make_profile({"x": rows}, {}, times=times))
    assert not watch(known, stream, now).learning
    assert known.report().raised_at is None
    assert watch(DriftMonitor(make_profile({"x": rows}, {}), NO_RHYTHM), stream, now).raised_at is not None
    later = 22 * DAY + np.arange(0, 600.0)
    assert "in/x[3]" == watch(known, shifted(by_day(later, 22), 0.6), later).moved[0].feature


def test_an_unknown_rhythm_is_learnt_in_a_day_and_until_then_only_what_breaks_is_found(daily_rows: tuple[Array, Array]) -> None:
    """Half a sigma is not seen on the first morning and is on the second; a broken feature is seen at once."""
    rows, _ = daily_rows
    profile, now = make_profile({"x": rows}, {}), 20 * DAY + np.arange(0, 1.1 * DAY, 4.0)
    monitor = DriftMonitor(profile)
    early = watch(monitor, shifted(by_day(now[:1000], 23), 0.5), now[:1000])
    assert early.learning
    assert not early.alarm
    assert "not known yet" in early.sentence
    assert watch(DriftMonitor(profile), shifted(by_day(now[:256], 24), 8.0), now[:256]).alarm
    monitor = DriftMonitor(profile)
    report = watch(monitor, by_day(now, 25), now)
    assert ("quiet", False) == (report.state, report.learning)
    later = now[-1] + np.arange(1, 900.0)
    assert "in/x[3]" == watch(monitor, shifted(by_day(later, 26), 0.6), later).moved[0].feature


def test_a_day_that_is_off_as_a_whole_is_not_learnt_as_usual(daily_rows: tuple[Array, Array]) -> None:
    """What is learnt is the hours' part of the day, so a first day that is shifted throughout is found when it ends."""
    rows, _ = daily_rows
    now = 20 * DAY + np.arange(0, 1.1 * DAY, 4.0)
    report = watch(DriftMonitor(make_profile({"x": rows}, {})), shifted(by_day(now, 27), 0.6), now)
    assert "in/x[3]" == report.moved[0].feature


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 1500), max_size=6))
def test_how_rows_are_split_over_calls_changes_nothing(profile: Profile, cuts: list[int]) -> None:
    """One row at a time or all at once: the evidence is the same up to rounding, and so is what moved."""
    rows, times = shifted(draw(31, 1500), 0.3), 5000.0 + np.arange(1500.0)
    whole, pieces = DriftMonitor(profile, NO_RHYTHM), DriftMonitor(profile, NO_RHYTHM)
    whole.observe({"x": rows}, {}, times)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 1500], strict=True):
        pieces.observe({"x": rows[start:end]}, {}, times[start:end])
    one, other = whole.report(), pieces.report()
    assert one.evidence == pytest.approx(other.evidence, rel=1e-2)
    assert (one.state, one.rows, one.since, one.raised_at) == (other.state, other.rows, other.since, other.raised_at)


@settings(max_examples=15)
@given(stop=st.integers(1, 1999), seed=st.integers(0, 3))
def test_a_restarted_process_goes_on_as_if_it_had_not_been(profile: Profile, stop: int, seed: int) -> None:
    """Whatever the moment: from its JSON a monitor gives the report, bit for bit, that it would have given."""
    rows, times = shifted(draw(40 + seed, 2000), 0.4), 7000.0 + np.arange(2000.0)
    monitor = DriftMonitor(profile)
    monitor.observe({"x": rows[:stop]}, {}, times[:stop])
    again = DriftMonitor.from_json(profile, json.loads(json.dumps(monitor.to_json())))
    assert monitor.report() == again.report()
    for own in (monitor, again):
        own.observe({"x": rows[stop:]}, {}, times[stop:])
    assert monitor.to_json() == again.to_json()


def test_a_learnt_rhythm_survives_a_restart(daily_rows: tuple[Array, Array]) -> None:
    """Else each restart would cost a day of watching."""
    rows, _ = daily_rows
    profile, now = make_profile({"x": rows}, {}), 20 * DAY + np.arange(0, 1.1 * DAY, 4.0)
    monitor = DriftMonitor(profile)
    watch(monitor, by_day(now, 28), now)
    again = DriftMonitor.from_json(profile, json.loads(json.dumps(monitor.to_json())))
    assert not again.report().learning
    assert monitor.to_json() == again.to_json()


def test_the_state_does_not_grow(profile: Profile) -> None:
    """Constant memory: after ten times the rows it is no larger."""
    monitor = DriftMonitor(profile, NO_RHYTHM)
    watch(monitor, draw(51, 20_000))
    size = len(json.dumps(monitor.to_json()))
    watch(monitor, draw(52, 200_000))
    assert len(json.dumps(monitor.to_json())) < 1.3 * size


def test_a_state_of_another_profile_or_of_nothing_is_refused(profile: Profile) -> None:
    """It would be compared with the wrong reference."""
    state = DriftMonitor(profile).to_json()
    with pytest.raises(ProfileDamagedError, match="not of this one"):
        DriftMonitor.from_json(make_profile({"x": draw(99, 100)}, {}), state)
    for broken in ({}, {**state, "stakes": "AAAA"}, {**state, "format": "x"}, {**state, "history": {}}, {**state, "settings": {"x": 1}}):
        with pytest.raises(ProfileDamagedError):
            DriftMonitor.from_json(profile, broken)


def test_an_alarm_stays_while_the_drift_lasts_and_ends_with_it(profile: Profile) -> None:
    """Acknowledged or not; its end has a time, and a new drift is a new alarm."""
    monitor = DriftMonitor(profile, NO_RHYTHM)
    watch(monitor, shifted(draw(61, 1024), 0.6), 100.0)
    monitor.acknowledge()
    report = watch(monitor, shifted(draw(62, 20_000), 0.6), 200.0)
    assert (True, True, 100.0) == (report.alarm, report.acknowledged, report.raised_at)
    report = watch(monitor, draw(63, 4096), 300.0)
    assert ("recovered", 300.0, (), False) == (report.state, report.recovered_at, report.moved, report.acknowledged)
    report = watch(monitor, shifted(draw(64, 1024), -0.6), 400.0)
    assert (True, False, 400.0, None) == (report.alarm, report.acknowledged, report.raised_at, report.recovered_at)


@settings(max_examples=25)
@given(spells=st.lists(st.tuples(st.integers(1, 600), st.sampled_from([0.0, 0.8, -0.8, 50.0])), min_size=1, max_size=8))
def test_whatever_comes_and_goes_a_report_can_be_given(profile: Profile, spells: list[tuple[int, float]]) -> None:
    """Drift that ends and begins again within one call, too; an alarm always names something, since some time."""
    monitor = DriftMonitor(profile, NO_RHYTHM)
    for number, (rows, by) in enumerate(spells):
        monitor.observe({"x": shifted(draw(number, rows), by)}, {}, float(number))
        report = monitor.report()
        assert report.alarm == bool(report.moved) == (report.since is not None)
        assert report.evidence >= 0
        assert json.dumps(report.to_json())


def test_a_reset_ends_the_alarm_and_a_drift_that_lasts_is_found_again(profile: Profile) -> None:
    """It forgets the evidence, not the world."""
    monitor = DriftMonitor(profile, NO_RHYTHM)
    assert watch(monitor, shifted(draw(65, 1024), 0.6), 1.0).alarm
    monitor.reset()
    assert (False, 0.0) == (monitor.report().alarm, monitor.report().evidence)
    assert watch(monitor, shifted(draw(66, 1024), 0.6), 2.0).alarm


def test_no_rows_are_nothing(profile: Profile) -> None:
    """An empty call changes no state."""
    monitor = DriftMonitor(profile)
    before = monitor.to_json()
    monitor.observe({"x": draw(1, 0)}, {}, np.zeros(0))
    assert before == monitor.to_json()


def test_a_report_is_json(profile: Profile) -> None:
    """With the sentence, for whoever shows it."""
    report = watch(DriftMonitor(profile, NO_RHYTHM), shifted(draw(67, 1024), 0.6))
    assert json.loads(json.dumps(report.to_json()))["sentence"] == report.sentence


@pytest.mark.parametrize(
    "wrong", [{"run_length": 1}, {"tolerated_sigma": -1}, {"margin_errors": 99}, {"rhythm": "x"}, {"learning_days": 0}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    """With a sentence that says what can."""
    with pytest.raises(ConfigurationError, match="expected"):
        DriftSettings(**wrong)


def test_settings_come_from_a_table() -> None:
    """An unknown name or a word for a number is a sentence with the file's name."""
    assert DriftSettings(run_length=5000, rhythm="none") == DriftSettings.read({"run_length": 5000, "rhythm": "none"}, source="x.toml")
    with pytest.raises(ConfigurationError, match=r"x\.toml sets run_lenght; the settings of drift are .*run_length"):
        DriftSettings.read({"run_lenght": 5000}, source="x.toml")
    with pytest.raises(ConfigurationError, match=r"x\.toml sets run_length = 'many'; expected a number"):
        DriftSettings.read({"run_length": "many"}, source="x.toml")


def test_times_of_other_rows_are_refused(profile: Profile) -> None:
    """One for all rows, or one for each."""
    with pytest.raises(RowsMismatchError, match="one for each"):
        DriftMonitor(profile).observe({"x": draw(1, 3)}, {}, np.zeros(2))


def test_a_broken_feature_is_broken_when_the_day_is_over_too(daily_rows: tuple[Array, Array]) -> None:
    """One alarm, from its first minutes on: that the rhythm is known then neither ends nor repeats it."""
    rows, _ = daily_rows
    now = 20 * DAY + np.arange(0, 1.1 * DAY, 4.0)
    report = watch(DriftMonitor(make_profile({"x": rows}, {})), shifted(by_day(now, 29), 9.0), now)
    assert (True, False) == (report.alarm, report.learning)
    assert report.raised_at is not None
    assert report.raised_at < now[2000]
    assert "in/x[3]" == report.moved[0].feature


def test_who_says_later_that_there_is_a_rhythm_has_it_learnt(profile: Profile) -> None:
    """New settings for an old state: learning begins then."""
    state = DriftMonitor(profile, NO_RHYTHM).to_json()
    assert DriftMonitor.from_json(profile, state, DriftSettings()).report().learning
    assert not DriftMonitor.from_json(profile, DriftMonitor(profile).to_json(), NO_RHYTHM).report().learning
