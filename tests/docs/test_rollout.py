"""docs/rollout.md has every field of the policy, and every field can be set where it says."""

import json
from pathlib import Path
from typing import Any

import pytest

from lastgood.errors import ConfigurationError, UsageError
from lastgood.pipelines.deploy import find_policy
from lastgood.serving.rollout.fields import fill_in, tabulate_fields
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.settings import load_settings

PAGE = Path(__file__).parents[2] / "docs" / "rollout.md"
# Another value than the default, for every field.
OTHERS: dict[str, Any] = {
    "steps": [0.05, 0.2],
    "step_requests": 201,
    "step_seconds": 11.0,
    "shadow_share": 0.5,
    "shadow_requests": 201,
    "shadow_seconds": 11.0,
    "shadow_labels": 1,
    "soak_share": 0.8,
    "soak_requests": 501,
    "soak_seconds": 601.0,
    "alpha": 0.002,
    "tolerated_ratio": 1.5,
    "tolerated_bad_ratio": 0.04,
    "tolerated_loss": 0.01,
    "accepted_disagreement": 0.1,
    "early_success": True,
    "success_alpha": 0.04,
    "slow_factor": 5.0,
    "cooldown_seconds": 60.0,
    "freeze_after": 4,
    "freeze_window_seconds": 60.0,
}


def write_settings(folder: Path, rollout: dict[str, Any]) -> None:
    values = "".join(f"{name} = {json.dumps(value)}\n" for name, value in rollout.items())
    (folder / "lastgood.toml").write_text(f"[models.digits.rollout]\n{values}", "utf-8")


def test_the_table_is_current() -> None:
    """As it is written: python -m lastgood.serving.rollout.fields docs/rollout.md."""
    text = PAGE.read_text("utf-8")
    assert fill_in(text) == text
    assert all(f"| `{name}` |" in tabulate_fields() for name in RolloutPolicy.model_fields)
    with pytest.raises(UsageError, match="found 0"):
        fill_in("no place")


def test_every_field_is_described_and_reachable_from_the_projects_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one alone, for a model with a pipeline; a field that is added must be added here."""
    monkeypatch.delenv("LASTGOOD_HOME", raising=False)
    assert set(OTHERS) == set(RolloutPolicy.model_fields)
    before = RolloutPolicy()
    for name, value in OTHERS.items():
        assert RolloutPolicy.model_fields[name].description, name
        write_settings(tmp_path, {name: value})
        found = getattr(find_policy(load_settings(tmp_path), "digits"), name)
        assert found != getattr(before, name)
        assert found == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("name", "value"), [("steps", [0.5, 0.1]), ("soak_share", 1.5), ("step_requests", 0), ("stepz", 1), ("alpha", "x")]
)
def test_a_value_that_cannot_be_is_named_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    """Before anything is deployed."""
    monkeypatch.delenv("LASTGOOD_HOME", raising=False)
    write_settings(tmp_path, {name: value})
    with pytest.raises(ConfigurationError, match=name) as caught:
        find_policy(load_settings(tmp_path), "digits")
    assert "lastgood.toml" in str(caught.value)
