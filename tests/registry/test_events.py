"""Events as text: what can be written, and that reading gives it back."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.registry.errors import InvalidEventError
from lastgood.registry.events import (
    EXACT_INTEGER,
    PAYLOAD_LIMIT_BYTES,
    check_kind,
    check_text,
    decode_payload,
    encode_payload,
    format_time,
    parse_time,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.integers(-EXACT_INTEGER, EXACT_INTEGER) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)
TIMES = st.datetimes(
    datetime(1990, 1, 1),  # noqa: DTZ001  the zone is drawn beside it
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9.5)), timezone(timedelta(hours=14))]),
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_payloads_come_back_equal(payload: dict[str, object]) -> None:
    """Whatever canonical JSON can hold is read as it was, and writing it again gives the same text."""
    text = encode_payload(payload)
    assert payload == decode_payload(text)
    assert text == encode_payload(decode_payload(text))


@pytest.mark.parametrize("value", [2**53, float("nan"), float("inf"), "\ud800", Path("a"), {1: 2}, b"x"], ids=repr)
def test_values_that_are_no_json_are_refused(value: object) -> None:
    """What other readers of JSON would take for another value is refused before it is written."""
    with pytest.raises(InvalidEventError, match="not JSON"):
        encode_payload({"value": value})


def test_payloads_have_a_limit() -> None:
    """An event is no place for a file."""
    with pytest.raises(InvalidEventError, match=str(PAYLOAD_LIMIT_BYTES)):
        encode_payload({"value": "x" * PAYLOAD_LIMIT_BYTES})


@given(TIMES, TIMES)
def test_times_sort_as_their_texts(one: datetime, other: datetime) -> None:
    """The database may compare texts; reading gives the same instant."""
    assert (one < other) == (format_time(one) < format_time(other))
    assert one == parse_time(format_time(one))


def test_a_time_without_a_zone_is_refused() -> None:
    """A naive time could be any of 24 instants."""
    with pytest.raises(InvalidEventError, match="no time zone"):
        format_time(datetime(2026, 3, 1, 14, 3))  # noqa: DTZ001


@pytest.mark.parametrize("kind", ["", "Registered", "alias_moved", "a" * 41, "1st"])
def test_kinds_have_a_form(kind: str) -> None:
    """A kind is lower-case words joined by dashes."""
    with pytest.raises(InvalidEventError, match="kind"):
        check_kind(kind)


@pytest.mark.parametrize("text", ["", "  ", "x" * 513, "\udcff", "a\0b"], ids=["empty", "blank", "long", "surrogate", "nul"])
def test_short_texts_have_a_form(text: str) -> None:
    """An actor or a reason says something, and fits."""
    with pytest.raises(InvalidEventError, match="actor"):
        check_text(text, "actor")
