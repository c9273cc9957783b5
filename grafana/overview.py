"""
The dashboard *Overview*: every model, in the order of the questions of somebody who was just woken.

Is something wrong? Do customers get answers? Who serves, since when? Where does the time go? Is the watch itself well?
"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from lastgood.grafana.frame import add_rows, annotate, open_dashboard
from lastgood.grafana.panels import (
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    Panel,
    Query,
    build_graph,
    build_number,
    build_states,
    build_table,
)
from lastgood.grafana.queries import bad_ratio, mean, quantile, rate, state_number
from lastgood.monitoring.signals import names

FIRING = f'{names.FIRING}{{alertstate="firing",alertname=~"Lastgood.+"}}'
_NONE_OR_BAD = ((None, GREEN), (1, RED))


def build_overview(runbooks: str) -> Dashboard:
    """Give the dashboard; ``runbooks`` is the folder or URL of the pages."""
    own = open_dashboard("lastgood-overview", "lastgood / Overview", "Every model of every gateway.", runbooks, refresh="10s")
    rows = [
        ("Is something wrong?", _wrong()),
        ("Do callers get answers?", _answers()),
        ("Who serves?", _serving()),
        ("Where does the time go?", _time()),
        ("Is the watch well?", _watch()),
    ]
    return add_rows(annotate(own, ""), rows).build()


def _wrong() -> list[Panel]:
    return [
        build_number(
            "Gateways that answer",
            "Part of the gateways that answered their last scrape. Below 100 % somebody's requests may go nowhere.",
            Query(f'avg({names.UP}{{job="{names.JOB}"}})', kind="instant"),
            unit="percentunit",
            steps=((None, RED), (1, GREEN)),
            none="NONE",
            runbook="LastgoodGatewayDown",
        ),
        build_number(
            "Alerts firing",
            "By severity. Critical ones page somebody; warnings go to chat and mail.",
            Query(f"count by (severity) ({FIRING})", "{{severity}}", kind="instant"),
            steps=((None, ORANGE),),
            none="none",
        ),
        build_number(
            "Replicas not ready",
            "Replicas that should answer and cannot yet, or no more. A few seconds while a version comes up are normal.",
            Query(f"count({names.REPLICA_READY.name}) - sum({names.REPLICA_READY.name})", kind="instant"),
            steps=_NONE_OR_BAD,
            runbook="LastgoodReplicaDown",
        ),
        build_number(
            "Withdrawn in the last hour",
            "Versions taken out of serving, by whomever. The last good one serves instead.",
            Query(f"sum(increase({names.WITHDRAWALS.name}[1h]))", kind="instant"),
            steps=((None, GREEN), (1, ORANGE)),
            runbook="LastgoodWithdrawn",
        ),
        build_number(
            "Models frozen",
            "Models that take no release until a person unfreezes them. What they serve is good.",
            Query(f"sum({names.FROZEN.name})", kind="instant"),
            steps=_NONE_OR_BAD,
            runbook="LastgoodFrozen",
        ),
        build_number(
            "Persons needed in the last hour",
            "Times lastgood could not go on alone: bad and nothing to go back to, frozen, or a journal that cannot be written.",
            Query(f"sum(increase({names.PAGES.name}[1h]))", kind="instant"),
            steps=_NONE_OR_BAD,
            runbook="LastgoodPersonNeeded",
        ),
        build_table(
            "Firing now",
            "Each alert leads to its runbook. Action says what lastgood does by itself: rollback, compare, or none.",
            Query(FIRING, kind="table"),
            hidden=("Time", "Value", "__name__", "alertstate", "instance", "job"),
            order=("severity", "alertname", "model", "version", "action", "cause"),
            link=("alertname", "${runbooks}/${__value.raw}.md"),
        ),
        build_states(
            "Rollouts",
            "The state of each model's last rollout: staged, canary, soaking, stable, or withdrawn.",
            Query(state_number(""), "{{model}}@{{version}}"),
        ).height(7),
    ]


def _answers() -> list[Panel]:
    return [
        build_graph(
            "Requests",
            "Answered or not, by model. A fall to zero with callers at work is an outage before the gateway.",
            [Query(rate(names.REQUESTS, "", "model"), "{{model}}")],
            unit="reqps",
            runbook="LastgoodNoTraffic",
        ),
        build_graph(
            "Bad answers, by outcome",
            "Part of the answered requests. failed: an error. invalid: not finite. timeout: past its deadline. Normal is none; "
            "an alert compares from 2 % on and rolls back from 50 % on (invalid: 20 %).",
            [Query(bad_ratio("", "model", "outcome"), "{{model}} {{outcome}}")],
            unit="percentunit",
            steps=((None, GREEN), (0.02, YELLOW), (0.5, RED)),
            runbook="LastgoodErrorRatio",
        ),
        build_graph(
            "Time to answer",
            "From a decoded request to the answer written. Over 1 s at the 99th percentile is an alert.",
            [Query(quantile(names.REQUEST_SECONDS, q, "", "model"), f"{{{{model}}}} p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)],
            unit="s",
            steps=((None, GREEN), (1, RED)),
            runbook="LastgoodLatency",
        ),
    ]


def _serving() -> list[Panel]:
    return [
        build_graph(
            "Shares",
            "Part of its model's requests that each version gets. A canary begins small; all to one is a settled model.",
            [Query(f"sum by (model,version,role) ({names.ROUTE_SHARE.name})", "{{model}}@{{version}} {{role}}")],
            unit="percentunit",
            most=1,
        ),
        build_graph(
            "Replicas ready",
            "Whether each version's replica verified its bytes, warmed up and gave the golden answers: 1 or 0.",
            [Query(f"sum by (model,version) ({names.REPLICA_READY.name})", "{{model}}@{{version}}")],
            unit="short",
            runbook="LastgoodReplicaDown",
        ),
        build_graph(
            "Replica deaths in a minute",
            "Replicas that died without being told to. Five of one version within a minute roll it back.",
            [Query(f"sum by (model,version) (increase({names.REPLICA_DEATHS.name}[1m]))", "{{model}}@{{version}}")],
            unit="short",
            steps=((None, GREEN), (5, RED)),
            runbook="LastgoodCrashLoop",
        ),
    ]


def _time() -> list[Panel]:
    return [
        build_graph(
            "Waiting requests",
            "Requests that wait for a replica. A queue that grows is more load than the host can carry.",
            [Query(f"sum by (model,version) ({names.QUEUE_DEPTH.name})", "{{model}}@{{version}}")],
            unit="short",
        ),
        build_graph(
            "Waiting and computing, 99th percentile",
            "Where a slow answer was slow: in the queue (load), or in the replica (the version).",
            [
                Query(quantile(names.QUEUE_SECONDS, 0.99, "", "model"), "{{model}} waiting"),
                Query(quantile(names.COMPUTE_SECONDS, 0.99, "", "model"), "{{model}} computing"),
            ],
            unit="s",
        ),
        build_graph(
            "Rows in a batch",
            "The mean. Batches form out of what waits while others are computed, so they grow with the load.",
            [Query(mean(names.BATCH_ROWS, "", "model,version"), "{{model}}@{{version}}")],
            unit="short",
        ),
    ]


def _watch() -> list[Panel]:
    return [
        build_graph(
            "Unrecorded decisions",
            "Withdrawals that are in a gateway's journal and not in the shared record yet. They hold all the same.",
            [Query(f"sum by (instance) ({names.UNRECORDED.name})", "{{instance}}")],
            unit="short",
            steps=((None, GREEN), (1, ORANGE)),
            runbook="LastgoodUnrecorded",
        ),
        build_number(
            "Event log",
            "Whether the hash chain of everything that happened is what was written, by the gateways' last check: at start and hourly.",
            Query(f"max({names.CHAIN_BROKEN.name})", kind="instant"),
            texts={"0": ("whole", GREEN), "1": ("BROKEN", RED)},
            none="not checked yet",
            runbook="LastgoodEventChainBroken",
        ).height(8),
        build_graph(
            "Alerts heard in a minute",
            "What gateways did about the alerts they were sent. Ignored ones are repeated, late, or ask for nothing.",
            [Query(f"sum by (model,result) (increase({names.ALERTS.name}[1m]))", "{{model}} {{result}}")],
            unit="short",
        ),
        build_graph(
            "Generation of the route",
            "Every change of a model's route counts one up. Gateways of one installation must agree.",
            [Query(f"max by (model,instance) ({names.ROUTE_GENERATION.name})", "{{model}} {{instance}}")],
            unit="short",
            least=None,
            span=4,
        ),
        build_number(
            "Gateways by release",
            "How many gateways run which release of lastgood. More than one release is an upgrade under way.",
            Query(f"count by (release) ({names.BUILD_INFO.name})", "{{release}}", kind="instant"),
        ).height(8),
    ]
