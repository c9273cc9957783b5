"""Tables and charts."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.errors import UsageError
from lastgood.render import Table, draw_bars, draw_matrix, draw_points


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=4))
def test_html_keeps_every_cell_and_runs_none(rows: list[tuple[str, str]]) -> None:
    """Whatever a cell says is text, never a tag."""
    page = Table("<i>", ("a", "b"), tuple(rows)).to_html()
    assert page.count("<td>") == 2 * len(rows)
    assert "<i>" not in page


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=4))
def test_markdown_has_a_line_per_row(rows: list[tuple[str, str]]) -> None:
    """Pipes and line breaks in a cell do not break the table."""
    assert len(Table("", ("a", "b"), tuple(rows)).to_markdown().split("\n")) == len(rows) + 3


def test_a_ragged_row_is_refused() -> None:
    """A missing cell would move the others under a wrong heading."""
    with pytest.raises(UsageError, match="expected 2"):
        Table("t", ("a", "b"), (("1",),))


def test_charts_are_svg_of_the_same_bytes_each_time() -> None:
    """Names are escaped, and the same numbers give the same picture."""

    def draw() -> list[str]:
        return [
            draw_bars("accuracy <b>", {"clean & dry": 97.0, "noisy": 90.0}, label="percent", floor=95.0),
            draw_points("variants", {"fp32": (20.0, 100.0), "int8": (5.0, 40.0)}, x_label="KiB", y_label="µs", marked="int8"),
            draw_matrix("answers", [[5, 1], [0, 6]], x_label="answered", y_label="expected"),
        ]

    first = draw()
    assert first == draw()
    assert all(ET.fromstring(chart).tag == "{http://www.w3.org/2000/svg}svg" for chart in first)  # noqa: S314 - drawn here
    assert "<b>" not in first[0]
