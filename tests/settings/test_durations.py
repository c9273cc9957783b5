"""Spans of time are written so that a person reads them at a glance."""

import pytest

from lastgood.durations import tell_seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (1e-6, "1 µs"),
        (0.0009999, "1 ms"),
        (0.00025, "250 µs"),
        (0.05, "50 ms"),
        (0.09999, "0.1 s"),
        (0.1, "0.1 s"),
        (2.5, "2.5 s"),
        (10.0, "10 s"),
        (999.9, "1000 s"),
        (86_400, "86400 s"),
    ],
)
def test_a_span_has_the_unit_that_fits(seconds: float, text: str) -> None:
    """Never a power of ten, also where rounding crosses a unit."""
    assert text == tell_seconds(seconds)
