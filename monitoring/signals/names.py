"""
Every metric lastgood exports, once: code, rules and dashboards read this table.

Units stand in the names; ``_total`` is a counter. A label set is closed: nothing a client sends becomes a new label
without a bound.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]


_VERSION = ("model", "version")
_ROLE = ("model", "version", "role")

REQUESTS = Metric("lastgood_requests_total", "counter", "Requests by what came of them.", (*_ROLE, "traffic", "outcome"))
REQUEST_SECONDS = Metric("lastgood_request_seconds", "histogram", "From decoded to the answer written.", _ROLE)
QUEUE_SECONDS = Metric("lastgood_queue_seconds", "histogram", "From decoded to dispatched to a replica.", _ROLE)
COMPUTE_SECONDS = Metric("lastgood_compute_seconds", "histogram", "In the replica, for the whole batch.", _ROLE)
BATCH_ROWS = Metric("lastgood_batch_rows", "histogram", "Rows in a batch.", _ROLE)
QUEUE_DEPTH = Metric("lastgood_queue_depth", "gauge", "Requests that wait for a replica.", _VERSION)
REPLICA_READY = Metric("lastgood_replica_ready", "gauge", "Whether a replica verified, warmed up and gave the golden answers.", _VERSION)
REPLICA_INFO = Metric(
    "lastgood_replica_info",
    "gauge",
    "1, with how a version's replicas run: how many are asked for, threads of each, execution provider in use.",
    (*_VERSION, "replicas", "threads", "provider"),
)
REPLICA_DEATHS = Metric("lastgood_replica_deaths_total", "counter", "Replicas that died without being told to.", _VERSION)
SLEEPING = Metric("lastgood_sleeping", "gauge", "Whether a version sleeps until somebody asks for it.", _VERSION)
RESIDENT = Metric(
    "lastgood_resident_bytes",
    "gauge",
    "Memory of a version's replicas as last measured (PSS), before that estimated from its files; 0 while it sleeps.",
    _VERSION,
)
WAKES = Metric("lastgood_wakes_total", "counter", "Attempts to wake a version that slept.", (*_VERSION, "result"))
WAKE_SECONDS = Metric("lastgood_wake_seconds", "histogram", "From the request that woke a version to its being up, of all models.", ())
EVICTIONS = Metric("lastgood_evictions_total", "counter", "Times a version was put to sleep to make room for others.", _VERSION)

ROUTE_SHARE = Metric("lastgood_route_share_ratio", "gauge", "Part of the model's requests a version gets.", _ROLE)
ROUTE_SINCE = Metric("lastgood_route_since_timestamp_seconds", "gauge", "Unix time since when a version has been in the route.", _VERSION)
ROUTE_GENERATION = Metric("lastgood_route_generation", "gauge", "Number of the model's route table.", ("model",))
ROLLOUT_STATE = Metric("lastgood_rollout_state", "gauge", "1 for the state the model's rollout is in.", (*_VERSION, "state"))
EVIDENCE = Metric("lastgood_rollout_evidence_log", "gauge", "Natural logarithm of the judge's e-value.", (*_VERSION, "kind"))
THRESHOLD = Metric("lastgood_rollout_threshold_log", "gauge", "Natural logarithm of the e-value that convicts.", (*_VERSION, "kind"))
WITHDRAWALS = Metric("lastgood_withdrawals_total", "counter", "Versions taken out of serving.", ("model", "cause"))
ALERTS = Metric("lastgood_alerts_total", "counter", "Alerts received, by what was done about them.", ("model", "result"))
FROZEN = Metric("lastgood_frozen", "gauge", "Whether the model takes no release until a person unfreezes it.", ("model",))
PAGES = Metric("lastgood_pages_total", "counter", "Times a person was needed: bad, and nothing to go back to; or frozen.", ("model",))
FREE = Metric("lastgood_home_free_bytes", "gauge", "Room where the gateway writes its journal and the registry its files.", ())
CHAIN_BROKEN = Metric("lastgood_event_chain_broken", "gauge", "Whether the registry's event chain is not what was written.", ())
UNRECORDED = Metric("lastgood_unrecorded_decisions", "gauge", "Withdrawals in the local journal that the shared record lacks.", ())
# The label ``state`` of ROLLOUT_STATE, in the order a rollout goes through them.
STATES = ("staged", "shadow", "canary", "soaking", "stable", "withdrawn")
BUILD_INFO = Metric("lastgood_build_info", "gauge", "1, with the release of lastgood that the gateway runs.", ("release",))

# What is known of answers only afterwards: from labels, from the prediction log, and from the process that reads both.
LABELLED = Metric("lastgood_labelled_total", "counter", "Answers whose label has come.", (*_ROLE, "slice"))
LABELLED_CORRECT = Metric("lastgood_labelled_correct_total", "counter", "Answers that their label says are right.", (*_ROLE, "slice"))
ACCURACY_FLOOR = Metric("lastgood_accuracy_floor_ratio", "gauge", "Part of the labelled answers that must be right.", ("model",))
DRIFT_EVIDENCE = Metric("lastgood_drift_log_evidence", "gauge", "Natural logarithm of the evidence that inputs drifted.", ("model",))
DRIFT_THRESHOLD = Metric("lastgood_drift_threshold_log", "gauge", "Natural logarithm of the evidence that calls it drift.", ("model",))
DRIFT_MEANING = Metric("lastgood_drift_meaning", "gauge", "1 for what the drift means.", ("model", "meaning"))
MEANINGS = ("none", "retrain", "suspect")  # the label ``meaning`` of DRIFT_MEANING
ESTIMATED_ACCURACY = Metric(
    "lastgood_estimated_accuracy_ratio", "gauge", "Accuracy guessed from confidence, without labels: blind to a changed meaning.", _VERSION
)
OBSERVER_UP = Metric("lastgood_observer_up", "gauge", "Whether the process that logs predictions and looks for drift takes them.", ())
OBSERVER_DROPPED = Metric("lastgood_observer_dropped_total", "counter", "Predictions the observer was too slow to take.", ("model",))
PREDICTION_LOG_FAILURES = Metric(
    "lastgood_prediction_log_failures_total", "counter", "Times the prediction log could not be written.", ("model",)
)
TELEMETRY_DROPPED = Metric(
    "lastgood_telemetry_dropped_total", "counter", "Requests that the access log, or the collector of spans, was not told of.", ("sink",)
)

# What Prometheus says itself, of its scrapes and of its rules.
UP = "up"
FIRING = "ALERTS"
JOB = "lastgood"  # the name of the gateway's scrapes

METRICS: tuple[Metric, ...] = (
    REQUESTS,
    REQUEST_SECONDS,
    QUEUE_SECONDS,
    COMPUTE_SECONDS,
    BATCH_ROWS,
    QUEUE_DEPTH,
    REPLICA_READY,
    REPLICA_INFO,
    REPLICA_DEATHS,
    SLEEPING,
    RESIDENT,
    WAKES,
    WAKE_SECONDS,
    EVICTIONS,
    ROUTE_SHARE,
    ROUTE_SINCE,
    ROUTE_GENERATION,
    ROLLOUT_STATE,
    EVIDENCE,
    THRESHOLD,
    WITHDRAWALS,
    ALERTS,
    FROZEN,
    PAGES,
    FREE,
    UNRECORDED,
    CHAIN_BROKEN,
    BUILD_INFO,
    LABELLED,
    LABELLED_CORRECT,
    ACCURACY_FLOOR,
    DRIFT_EVIDENCE,
    DRIFT_THRESHOLD,
    DRIFT_MEANING,
    ESTIMATED_ACCURACY,
    OBSERVER_UP,
    OBSERVER_DROPPED,
    PREDICTION_LOG_FAILURES,
    TELEMETRY_DROPPED,
)
