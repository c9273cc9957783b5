"""The update table of lastgood.toml."""

from pathlib import Path

import pytest

from lastgood.errors import ConfigurationError
from lastgood.pipelines.update_settings import check_update, read_update
from lastgood.settings import load_settings


def test_defaults_and_what_the_project_says(tmp_path: Path) -> None:
    """A model without a table is trained from the start, on demand only."""
    (tmp_path / "lastgood.toml").write_text('[models.a.update]\npolicy = "incremental"\nschedule = "0 3 * * mon"\n', "utf-8")
    settings = load_settings(tmp_path)
    assert ("incremental", "0 3 * * mon") == (read_update(settings, "a").policy, read_update(settings, "a").schedule)
    other = read_update(settings, "b")
    assert ("full", None, False, False) == (other.policy, other.schedule, other.on_drift, other.with_log)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"polcy": "full"}, ["polcy", "policy"]),
        ({"policy": "sometimes"}, ["policy = 'sometimes'", "full"]),
        ({"schedule": "at night"}, ["schedule = 'at night'", "five fields"]),
        ({"schedule": "99 99 * * *"}, ["schedule = '99 99 * * *'", "no time of cron's"]),
        ({"schedule": "0 0 31 2 *"}, ["schedule = '0 0 31 2 *'", "no time of cron's"]),
        ({"replay_ratio": 1.5}, ["replay_ratio = 1.5"]),
        ({"min_rows": 100, "max_rows": 10}, ["max_rows = 10: expected min_rows (100)"]),
        ({"epochs": -1}, ["epochs = -1"]),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_is_known(values: dict[str, object], names: list[str]) -> None:
    """In one sentence."""
    with pytest.raises(ConfigurationError, match=r"models\.m\.update in lastgood\.toml is not valid") as refused:
        check_update(values, model="m")
    for name in names:
        assert name in str(refused.value)
