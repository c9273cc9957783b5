"""Card fraud from ten facts about a payment: gradient boosting on generated payments, tested on three kinds of month."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from lastgood.pipelines.data import Array, Data
from lastgood.pipelines.gate_settings import GateSettings
from lastgood.pipelines.pipeline import Pipeline

FACTS = (
    "amount_log",  # natural logarithm of the amount in euros
    "amount_ratio",  # amount over the card's usual one
    "hour",  # of the day, 0 to 24
    "minutes_since_last",  # payment with this card
    "payments_last_hour",
    "kilometres_from_home",
    "abroad",  # 1 if so
    "online",  # 1 if so
    "card_age_days",
    "merchant_risk",  # share of this merchant's earlier payments that were fraud
)
_TRAIN, _EVALUATION = 12_000, 3_000
_SEED = 11  # the payments are part of the data: another seed of the training must not change what is tested


class Fraud(Pipeline):
    """
    Whether a payment is fraud (1) or not (0).

    The payments are generated: a hidden rule with interactions decides how likely each is fraud, and a coin decides.
    No person's payments are in them.
    """

    parameters: ClassVar[Mapping[str, Any]] = {"trees": 80, "leaves": 15, "learning_rate": 0.1}
    # Fraud is the rare label: what share of it is found is a slice with a floor of its own.
    gate = GateSettings(accuracy_floor=0.94, slice_floors={"fraud": 0.5, "honest": 0.96}, required_slices=("fraud",))
    input_name = "payment"
    rollout: ClassVar[Mapping[str, Any]] = {"step_requests": 100, "step_seconds": 2.0, "soak_requests": 300, "soak_seconds": 10.0}

    def load(self) -> Data:
        """Generate an ordinary month to train on, and three to test on."""
        rng = np.random.default_rng(_SEED)
        return Data(
            train=_generate(rng, _TRAIN),
            evaluation={
                "ordinary": _generate(rng, _EVALUATION),
                "holidays": _generate(rng, _EVALUATION, abroad=0.25, dearer=1.3),
                "sales": _generate(rng, _EVALUATION, online=0.75, dearer=1.6),
            },
        )

    def build(self, parameters: Mapping[str, Any]) -> Any:
        """Boosted trees."""
        from sklearn.ensemble import GradientBoostingClassifier

        return GradientBoostingClassifier(
            n_estimators=int(parameters["trees"]),
            max_leaf_nodes=int(parameters["leaves"]),
            learning_rate=float(parameters["learning_rate"]),
        )

    def slices(self, x: Array, y: Array) -> Mapping[str, Array]:
        """Fraud and honest payments, abroad, online, and at night."""
        hour = x[:, FACTS.index("hour")]
        return {
            "fraud": y == 1,
            "honest": y == 0,
            "abroad": x[:, FACTS.index("abroad")] == 1,
            "online": x[:, FACTS.index("online")] == 1,
            "at night": hour < 6,
        }


def _generate(
    rng: np.random.Generator, rows: int, *, abroad: float = 0.08, online: float = 0.4, dearer: float = 1.0
) -> tuple[Array, Array]:
    """Draw payments, "row fact" float32, and whether each is fraud, "row" int64."""
    usual = rng.lognormal(3.2, 0.6, rows)
    ratio = rng.lognormal(0, 0.7, rows) * dearer
    hour = (rng.normal(14, 5, rows)) % 24
    since = rng.exponential(900, rows)
    last_hour = rng.poisson(60 / (since + 30))
    away = rng.random(rows) < abroad
    kilometres = np.where(away, rng.lognormal(6.8, 0.7, rows), rng.lognormal(1.8, 1.2, rows))
    by_wire = rng.random(rows) < online
    age = rng.exponential(700, rows)
    risk = rng.beta(1, 30, rows)
    # The hidden rule: single facts say little, some pairs say much.
    weight = (
        -7.4
        + 3.4 * ((ratio > 3) & by_wire)
        + 3.0 * (last_hour >= 2)
        + 3.6 * (away & (since < 300))
        + 2.6 * ((hour < 6) & (ratio > 1.5))
        + 45 * risk
        + 1.4 * (age < 60)
        + 1.2 * np.log1p(ratio)
    )
    y = rng.random(rows) < 1 / (1 + np.exp(-2.2 * weight))
    facts = (np.log(usual * ratio), ratio, hour, since, last_hour, kilometres, away, by_wire, age, risk)
    return np.stack(facts, axis=1).astype(np.float32), y.astype(np.int64)
