"""What the gate accepted, as the rollout's policy has it."""

from hypothesis import given
from hypothesis import strategies as st

from lastgood.pipelines.accepted import accept_accuracy, accept_disagreement
from lastgood.pipelines.gate_settings import GateSettings
from lastgood.registry.content import Record
from lastgood.serving.rollout.policy import RolloutPolicy

LIVE = "sha256:live"


def record(agreement: float, rows: int = 1000, parent: str = LIVE) -> Record:
    return Record("ada", "why", parent=parent, metrics={"live_agreement": agreement, "evaluation_rows": float(rows)})


@given(agreement=st.floats(0, 1), rows=st.integers(1, 100_000))
def test_more_is_accepted_than_was_measured(agreement: float, rows: int) -> None:
    """And never more than half."""
    accepted = accept_disagreement(RolloutPolicy(), record(agreement, rows), LIVE).accepted_disagreement
    assert accepted is not None
    assert min(0.5, 1 - agreement) - 1 / rows <= accepted <= 0.5


def test_what_a_person_set_holds() -> None:
    """The project's value over the measured one."""
    policy = RolloutPolicy(accepted_disagreement=0.2)
    assert 0.2 == accept_disagreement(policy, record(0.99), LIVE).accepted_disagreement


def test_a_comparison_with_another_version_than_the_live_one_says_nothing() -> None:
    """Nor does none."""
    assert accept_disagreement(RolloutPolicy(), record(0.99, parent="sha256:other"), LIVE).accepted_disagreement is None
    assert accept_disagreement(RolloutPolicy(), record(0.99), None).accepted_disagreement is None
    assert accept_disagreement(RolloutPolicy(), Record("ada", "why", parent=LIVE), LIVE).accepted_disagreement is None


def test_the_gates_floor_is_the_floor_of_labelled_accuracy() -> None:
    """Unless the policy has one of its own."""
    gate = GateSettings(accuracy_floor=0.9)
    assert 0.9 == accept_accuracy(RolloutPolicy(), gate).accuracy_floor
    assert 0.8 == accept_accuracy(RolloutPolicy(accuracy_floor=0.8), gate).accuracy_floor
    assert accept_accuracy(RolloutPolicy(), GateSettings()).accuracy_floor is None
