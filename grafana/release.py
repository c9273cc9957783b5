"""The dashboard *Release*: one model's rollout, the candidate beside the version it is compared with."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import Dashboard, VariableRefresh, VariableSort

from lastgood.grafana.frame import add_rows, annotate, open_dashboard
from lastgood.grafana.panels import (
    BLUE,
    GREEN,
    ORANGE,
    RED,
    SOURCE,
    YELLOW,
    Panel,
    Query,
    build_gauges,
    build_graph,
    build_number,
    build_states,
    state_texts,
)
from lastgood.grafana.queries import bad_ratio, mean, quantile, rate, state_number
from lastgood.monitoring.signals import names

_MODEL = 'model="$model"'
_BOTH = "role,version"  # candidate and baseline while a rollout is judged, live outside of one
_NAME = "{{role}} @{{version}}"


def build_release(runbooks: str) -> Dashboard:
    """Give the dashboard; ``runbooks`` is the folder or URL of the pages."""
    own = open_dashboard(
        "lastgood-release", "lastgood / Release", "One model's rollout, candidate beside baseline.", runbooks, refresh="5s"
    )
    model = dashboard.QueryVariable("model").label("Model").datasource(SOURCE).query(f"label_values({names.ROUTE_GENERATION.name}, model)")
    own = own.with_variable(model.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC))
    rows = [
        ("Where is it?", _state()),
        ("Candidate beside baseline", _compared()),
        ("What the judge sees", _evidence()),
        ("What is known afterwards", _afterwards()),
        ("The route", _route()),
    ]
    return add_rows(annotate(own, f"{{{_MODEL}}}"), rows).build()


def _state() -> list[Panel]:
    return [
        build_number(
            "State",
            "Of the model's last rollout. Withdrawn: the version before it serves.",
            Query(state_number(_MODEL), "@{{version}}", kind="instant"),
            texts=state_texts(),
            none="never released",
            runbook="LastgoodWithdrawn",
        ),
        build_number(
            "Shares",
            "Part of the requests for each version. While a rollout is judged the baseline keeps at least a tenth.",
            Query(f"sum by ({_BOTH}) ({names.ROUTE_SHARE.name}{{{_MODEL}}})", _NAME, kind="instant"),
            unit="percentunit",
            steps=((None, BLUE),),
            none="nothing serves",
            span=6,
        ),
        build_number(
            "In the route for",
            "How long each version has been serving this time. Alerts that began earlier change nothing.",
            Query(f"time() - max by (version) ({names.ROUTE_SINCE.name}{{{_MODEL}}})", "@{{version}}", kind="instant"),
            unit="s",
            steps=((None, BLUE),),
            span=6,
        ),
        build_number(
            "Withdrawn in the last hour",
            "By who decided: the judge, an alert, a person, or because it did not become ready.",
            Query(f"sum by (cause) (increase({names.WITHDRAWALS.name}{{{_MODEL}}}[1h]))", "{{cause}}", kind="instant"),
            steps=((None, GREEN), (1, ORANGE)),
            runbook="LastgoodWithdrawn",
        ),
        build_number(
            "Frozen",
            "A frozen model takes no release until a person unfreezes it.",
            Query(f"max({names.FROZEN.name}{{{_MODEL}}})", kind="instant"),
            texts={"0": ("no", GREEN), "1": ("FROZEN", RED)},
            none="never released",
            runbook="LastgoodFrozen",
        ),
    ]


def _compared() -> list[Panel]:
    return [
        build_graph(
            "Bad answers",
            "Part of the answered requests that failed, were not finite, or came past their deadline. If both lines rise together "
            "the version is not to blame.",
            [Query(bad_ratio(_MODEL, _BOTH), _NAME)],
            unit="percentunit",
            steps=((None, GREEN), (0.02, YELLOW), (0.5, RED)),
            runbook="LastgoodFailing",
        ),
        build_graph(
            "Time to answer, median and 99th percentile",
            "From a decoded request to the answer written, waiting included.",
            [Query(quantile(names.REQUEST_SECONDS, q, _MODEL, _BOTH), f"{_NAME} p{q * 100:.0f}") for q in (0.5, 0.99)],
            unit="s",
            steps=((None, GREEN), (1, RED)),
            runbook="LastgoodLatency",
        ),
        build_graph(
            "Answers",
            "Requests per second. Their ratio follows the shares; silence promotes nothing.",
            [Query(rate(names.REQUESTS, _MODEL, _BOTH), _NAME)],
            unit="reqps",
            runbook="LastgoodNoTraffic",
        ),
        build_graph(
            "Computing, 99th percentile",
            "In the replica, for a whole batch: the version's own part of the time.",
            [Query(quantile(names.COMPUTE_SECONDS, 0.99, _MODEL, _BOTH), _NAME)],
            unit="s",
        ),
        build_graph(
            "Rows in a batch",
            "The mean. Larger batches take longer and are no slower for it.",
            [Query(mean(names.BATCH_ROWS, _MODEL, _BOTH), _NAME)],
            unit="short",
        ),
        build_graph(
            "Replica deaths in a minute",
            "Replicas that died without being told to.",
            [Query(f"sum by (version) (increase({names.REPLICA_DEATHS.name}{{{_MODEL}}}[1m]))", "@{{version}}")],
            unit="short",
            steps=((None, GREEN), (5, RED)),
            runbook="LastgoodCrashLoop",
        ),
    ]


def _evidence() -> list[Panel]:
    evidence, threshold = f"{names.EVIDENCE.name}{{{_MODEL}}}", f"{names.THRESHOLD.name}{{{_MODEL}}}"
    return [
        build_gauges(
            "How far to a verdict",
            "Evidence as a part of what convicts, by kind of bad event. At 100 % the version is taken out, whatever an alert says.",
            Query(f"clamp_min({evidence} / {threshold}, 0)", "{{kind}}", kind="instant"),
            unit="percentunit",
            steps=((None, GREEN), (0.5, YELLOW), (1, RED)),
            most=1,
        ),
        build_graph(
            "Evidence against its threshold",
            "Natural logarithm of the judge's e-value. It wanders below zero for a good version; one that meets its limit convicts.",
            [Query(evidence, "{{kind}} @{{version}}"), Query(threshold, "limit for {{kind}}")],
            unit="short",
            least=None,
            span=16,
        ),
    ]


def _afterwards() -> list[Panel]:
    right = f"sum by ({_BOTH}) (rate({names.LABELLED_CORRECT.name}{{{_MODEL}}}[5m]))"
    told = f"sum by ({_BOTH}) (rate({names.LABELLED.name}{{{_MODEL}}}[5m]))"
    return [
        build_graph(
            "Accuracy by labels, and estimated",
            "Part of the labelled answers of the last five minutes that were right. The estimate is made of the answers' "
            "confidence, without labels: it does not see that a class has come to mean something else.",
            [Query(f"{right} / {told}", _NAME), Query(f"{names.ESTIMATED_ACCURACY.name}{{{_MODEL}}}", "estimated @{{version}}")],
            unit="percentunit",
            most=1,
            runbook="LastgoodAccuracy",
        ),
        build_graph(
            "Labels",
            "Answers per second whose label came. Without labels nobody knows whether a version is right.",
            [Query(told, _NAME)],
            unit="reqps",
        ),
        build_graph(
            "Evidence of drift",
            "Of what gets most of the requests, as a part of what raises the alarm: all features and answers together. Drift "
            "alerts, and takes nothing back.",
            [Query(f"clamp_min({names.DRIFT_EVIDENCE.name}{{{_MODEL}}} / {names.DRIFT_THRESHOLD.name}{{{_MODEL}}}, 0)")],
            unit="percentunit",
            steps=((None, GREEN), (1, ORANGE)),
            runbook="LastgoodDrift",
        ),
        build_number(
            "What drift means",
            "Retrain: both versions suffer, or the only one. Suspect: the candidate's answers alone moved, and the judge looks closer.",
            Query(f"{names.DRIFT_MEANING.name}{{{_MODEL}}} == 1", "{{meaning}}", kind="instant"),
            steps=((None, BLUE),),
            runbook="LastgoodDrift",
        ),
    ]


def _route() -> list[Panel]:
    return [
        build_graph(
            "Shares",
            "Part of the requests that each version gets.",
            [Query(f"sum by ({_BOTH}) ({names.ROUTE_SHARE.name}{{{_MODEL}}})", _NAME)],
            unit="percentunit",
            most=1,
            stacked=True,
            span=12,
        ),
        build_states("States", "Of the rollouts, one line for each version.", Query(state_number(_MODEL), "@{{version}}")),
    ]
