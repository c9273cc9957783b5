"""When models were last asked, over a restart."""

import math
import time
from pathlib import Path

import pytest

from lastgood.serving.gateway.sleep.recency import Recency


def test_the_order_outlives_a_restart_and_what_is_not_known_comes_last_by_name(tmp_path: Path) -> None:
    """In times of one process; the next one has another clock."""
    path, now = tmp_path / "asked.json", time.monotonic()
    Recency(path).keep({"old": now - 100, "new": now - 1, "never": -math.inf})
    after = Recency(path)
    assert ["new", "old", "a", "never"] == after.order(["never", "a", "old", "new"])
    assert now - 100 == pytest.approx(after.recall("old"), abs=1)
    assert -math.inf == after.recall("never")


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"m": "yesterday"}', '{"m": null}'])
def test_a_damaged_file_costs_the_order_and_nothing_else(tmp_path: Path, text: str) -> None:
    """It is replaced by the next one that is kept."""
    path = tmp_path / "asked.json"
    path.write_text(text, "utf-8")
    recency = Recency(path)
    assert ["a", "m"] == recency.order(["m", "a"])
    recency.keep({"m": time.monotonic()})
    assert ["m", "a"] == Recency(path).order(["m", "a"])


def test_a_disk_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No request fails for it."""
    Recency(tmp_path / "gone" / "asked.json").keep({"m": 1.0})
    assert "cannot be kept" in caplog.text
