"""
Alert rules about what is known of answers only afterwards: labels, drift, and the process that reads both.

None of them rolls back. Labels come late and for a part of the answers, so accuracy below its floor asks the judge to
compare; drift is the inputs' doing before it is the version's, and a person decides what it means.
"""

from typing import Final

from lastgood.monitoring.signals import names
from lastgood.monitoring.signals.rule import Rule

LEAST_LABELS: Final = 100  # in the window; fewer say nothing
CONFIDENCE: Final = 2.58  # standard errors: by chance alone, one look in 200 is below a floor that holds
WINDOW: Final = "1h"


def _below_floor() -> str:
    """
    Keep versions whose accuracy is below the floor at the upper end of its interval, too.

    Wilson's interval inverts the score test, so its upper end is below the floor where the accuracy is more than so many
    standard errors, taken at the floor, below it. Source: Wilson 1927.
    """
    labelled, correct = (
        f'sum by (model, version) (increase({metric.name}{{role!="shadow"}}[{WINDOW}]))'
        for metric in (names.LABELLED, names.LABELLED_CORRECT)
    )
    # The floor has no version: each version's labels carry it along.
    floor = f"({labelled} * 0 + on (model) group_left () max by (model) ({names.ACCURACY_FLOOR.name}))"
    limit = f"({floor} - {CONFIDENCE} * sqrt({floor} * (1 - {floor}) / {labelled}))"
    routed = f"and on (model, version) (max by (model, version) ({names.ROUTE_SHARE.name}) > 0)"
    return f"{correct} / {labelled} < {limit} and {labelled} >= {LEAST_LABELS} {routed}"


def _drifted() -> str:
    evidence, threshold = (f"max by (model) ({metric.name})" for metric in (names.DRIFT_EVIDENCE, names.DRIFT_THRESHOLD))
    meaning = f'max by (model, meaning) ({names.DRIFT_MEANING.name}{{meaning!="none"}}) == 1'
    return f"({meaning}) and on (model) ({evidence} >= {threshold})"


def build_late_rules() -> list[Rule]:
    """Give the rules."""
    return [
        Rule(
            "LastgoodAccuracy",
            _below_floor(),
            "30m",
            "warning",
            "compare",
            "{{ $labels.model }}@{{ $labels.version }} gives {{ $value | humanizePercentage }} right answers, by their labels: too few.",
        ),
        Rule(
            "LastgoodDrift",
            _drifted(),
            "5m",
            "warning",
            "none",
            "What {{ $labels.model }} is asked is no longer what it was trained on; that means: {{ $labels.meaning }}.",
        ),
        Rule(
            "LastgoodObserverDown",
            f"{names.OBSERVER_UP.name} == 0",
            "30s",
            "warning",
            "none",
            "The observer of {{ $labels.instance }} takes nothing: no predictions are logged, and drift is not looked for.",
        ),
        Rule(
            "LastgoodObserverBehind",
            f"increase({names.OBSERVER_DROPPED.name}[5m]) > 0",
            "1m",
            "warning",
            "none",
            "The observer was too slow for {{ $value | humanize }} predictions of {{ $labels.model }} in five minutes; they are lost.",
        ),
        Rule(
            "LastgoodPredictionsUnwritten",
            f"increase({names.PREDICTION_LOG_FAILURES.name}[5m]) > 0",
            "0s",
            "warning",
            "none",
            "The prediction log of {{ $labels.model }} cannot be written at {{ $labels.instance }}: predictions are lost to retraining.",
        ),
    ]
