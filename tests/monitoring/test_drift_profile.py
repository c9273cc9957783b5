"""The reference profile as a file: the same bytes for the same rows, and nothing else is read."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.monitoring.drift.errors import ProfileDamagedError, RowsMismatchError
from lastgood.monitoring.drift.features import Array
from lastgood.monitoring.drift.profile import Profile, calibrate_answers, make_profile
from lastgood.monitoring.drift.rhythm import LEAST_ROWS, TERMS

DAY = 86_400
RANDOM = np.random.default_rng(1)
X = RANDOM.standard_normal((LEAST_ROWS, 4)).astype(np.float32)
P = np.stack((X[:, 0] > 0, X[:, 0] <= 0), axis=1).astype(np.float32) * 0.8 + 0.1
TIMES = np.linspace(0, 2 * DAY, LEAST_ROWS)


def make() -> Profile:
    profile = make_profile({"x": X}, {"p": P}, times=TIMES, rows=1500)
    calibration = calibrate_answers(profile.plan, {"p": P}, (X[:, 0] <= 0).astype(np.int64), independent=0.75)
    return make_profile({"x": X}, {"p": P}, times=TIMES, rows=1500, calibration=calibration)


WHOLE = make().to_bytes()


def test_a_profile_is_read_back_and_the_same_rows_give_the_same_bytes() -> None:
    """Every array, and what is computed from them."""
    again = Profile.from_bytes(WHOLE)
    assert make().to_bytes() == WHOLE == again.to_bytes()
    assert 1500 == again.rows
    assert again.rhythm is not None
    assert (TERMS, len(again.plan.names)) == again.rhythm.means.shape
    assert again.calibration is not None
    assert 1.0 == again.calibration.tested
    np.testing.assert_array_equal(make().scores, again.scores)


@given(end=st.integers(0, len(WHOLE) - 1))
def test_half_a_profile_is_refused(end: int) -> None:
    """Wherever it was cut."""
    with pytest.raises(ProfileDamagedError):
        Profile.from_bytes(WHOLE[:end])


@given(data=st.binary(max_size=300))
def test_other_bytes_are_refused(data: bytes) -> None:
    """With an error that has a sentence, never a traceback."""
    with pytest.raises(ProfileDamagedError, match="no drift profile"):
        Profile.from_bytes(data)


@given(place=st.integers(0, len(WHOLE) - 1), value=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_harmless(place: int, value: int) -> None:
    """Whatever is read can be used; that a byte changed is for the digest to find."""
    data = WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :]
    try:
        profile = Profile.from_bytes(data)
    except ProfileDamagedError:
        return
    assert np.isfinite(profile.scores).all()


@pytest.mark.parametrize(
    "change",
    [
        {"counts": np.zeros((2, 128), np.uint32)},
        {"counts": np.zeros((8, 127), np.uint32)},
        {"counts": np.zeros((8, 128), np.int64)},
        {"sigmas": np.zeros(8, np.float32)},
        {"middles": np.full(8, np.nan, np.float32)},
        {"means": np.zeros((3, 8)), "variances": np.zeros((3, 8))},
        {"edges": np.array([0.5, 0.4])},
        {"calibrated": np.array([[1], [2]], np.uint32), "edges": np.zeros(0)},
        {"header": np.frombuffer(b'{"format":"lastgood/drift/9"}', np.uint8)},
        {"header": np.frombuffer(b'{"format":"lastgood/drift/1","rows":0,"parts":[]}', np.uint8)},
        {"header": np.frombuffer(b"[]", np.uint8)},
        {"header": np.array([{}], object)},
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(change: dict[str, Array]) -> None:
    """Another number of features, another type, what is not finite, what is pickled."""
    with np.load(io.BytesIO(WHOLE), allow_pickle=False) as saved:
        arrays = {name: saved[name] for name in saved.files}
    buffer = io.BytesIO()
    np.savez(buffer, **{**arrays, **change})
    with pytest.raises(ProfileDamagedError):
        Profile.from_bytes(buffer.getvalue())


def test_a_compressed_profile_is_refused() -> None:
    """A small file could otherwise fill the memory."""
    with np.load(io.BytesIO(WHOLE), allow_pickle=False) as saved:
        arrays = {name: saved[name] for name in saved.files}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with pytest.raises(ProfileDamagedError, match="compressed"):
        Profile.from_bytes(buffer.getvalue())


@pytest.mark.parametrize("times", [TIMES / 10, np.linspace(0, DAY, 100)])
def test_times_that_leave_hours_out_or_are_few_teach_no_rhythm(times: Array) -> None:
    """A morning is no day, and of a hundred rows most of what is learnt would be chance."""
    assert make_profile({"x": X[: len(times)]}, {}, times=times).rhythm is None


@pytest.mark.parametrize("times", [TIMES[:-1], np.full(LEAST_ROWS, np.nan)])
def test_times_of_other_rows_are_refused(times: Array) -> None:
    """One finite number for each row."""
    with pytest.raises(RowsMismatchError, match="one finite number each"):
        make_profile({"x": X}, {}, times=times)


def test_a_profile_of_no_rows_is_refused() -> None:
    """There is nothing to compare with."""
    with pytest.raises(RowsMismatchError, match="needs rows"):
        make_profile({"x": X[:0]}, {})
