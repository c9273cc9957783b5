"""Alert rules and configurations, by Prometheus' and Alertmanager's own checkers."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from lastgood.monitoring.signals import names
from lastgood.monitoring.signals.configuration import Signals, rules, write_configuration
from lastgood.monitoring.signals.rules import build_rules

SIGNALS = Signals(gateway="127.0.0.1:8002", alertmanager="127.0.0.1:19093")
STEPS = 60  # samples, a second apart


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    text = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return {"series": f"{name}{{{text}}}", "values": values}


def requests(outcome: str, per_second: int, version: str = "2", role: str = "live") -> dict[str, str]:
    labels = {"model": "m", "version": version, "role": role, "traffic": "production", "outcome": outcome}
    return series(names.REQUESTS.name, f"0+{per_second}x{STEPS}", **labels)


def latency(per_second_fast: int, per_second_slow: int) -> list[dict[str, str]]:
    """Requests of which some took more than two seconds."""
    total = per_second_fast + per_second_slow
    rates = {"0.1": per_second_fast, "2.5": per_second_fast, "5": total, "+Inf": total}
    labels = {"model": "m", "version": "2", "role": "live"}
    return [series(f"{names.REQUEST_SECONDS.name}_bucket", f"0+{rate}x{STEPS}", **labels, le=le) for le, rate in rates.items()]


SHARE = series(names.ROUTE_SHARE.name, f"1x{STEPS}", model="m", version="2", role="live")
DEATHS = {"model": "m", "version": "2"}


def beside(*, candidate: int, baseline: int) -> list[dict[str, str]]:
    """Bad answers per second of 20 of either role."""
    found = []
    for version, role, bad in (("2", "candidate", candidate), ("1", "baseline", baseline)):
        found += [requests("failed", bad, version, role), requests("ok", 20 - bad, version, role)]
    return found


def labelled(*, per_minute: int, right: int, every: int = 1) -> list[dict[str, str]]:
    """Labels of version 2 for two hours, come each minute or every so many; its floor is 0.9."""

    def count(number: int) -> str:
        return f"0+{number}x130" if every == 1 else " ".join(str(number * (minute // every)) for minute in range(130))

    own = {"model": "m", "version": "2", "role": "live", "slice": ""}
    return [
        series(names.LABELLED.name, count(per_minute), **own),
        series(names.LABELLED_CORRECT.name, count(right), **own),
        series(names.ACCURACY_FLOOR.name, "0.9x130", model="m"),
        series(names.ROUTE_SHARE.name, "1x130", model="m", version="2", role="live"),
    ]


def drift(*, evidence: int, meaning: str) -> list[dict[str, str]]:
    """Evidence of that many nats against a threshold of 7."""
    meanings = [series(names.DRIFT_MEANING.name, f"{int(own == meaning)}x60", model="m", meaning=own) for own in names.MEANINGS]
    limits = [series(names.DRIFT_EVIDENCE.name, f"{evidence}x60", model="m"), series(names.DRIFT_THRESHOLD.name, "7x60", model="m")]
    return [*meanings, *limits]


class Case(NamedTuple):
    """A rule's test: series under which it fires, and the nearest under which it does not."""

    fires: list[dict[str, str]]
    quiet: list[dict[str, str]]
    at: str = f"{STEPS}s"  # when both are looked at
    interval: str = "1s"  # between the samples


CASES = {
    "LastgoodFailing": Case(
        [requests("failed", 30), requests("ok", 5)],
        # Both versions fail: something else is to blame.
        [requests("failed", 30), requests("ok", 5), requests("failed", 30, "1"), requests("ok", 5, "1")],
    ),
    "LastgoodInvalidOutputs": Case([requests("invalid", 10), requests("ok", 20)], [requests("invalid", 1), requests("ok", 40)]),
    "LastgoodCrashLoop": Case(
        [series(names.REPLICA_DEATHS.name, f"0+1x{STEPS}", **DEATHS)],
        [series(names.REPLICA_DEATHS.name, f"0x30 1x{STEPS - 30}", **DEATHS)],
    ),
    "LastgoodErrorRatio": Case(
        [SHARE, requests("failed", 1), requests("ok", 20)],
        # It was taken out, and is still bad in the window.
        [requests("failed", 1), requests("ok", 20)],
    ),
    "LastgoodLatency": Case([SHARE, *latency(50, 50)], [SHARE, *latency(10_000, 1)]),
    "LastgoodReplicaDown": Case(
        [SHARE, series(names.REPLICA_READY.name, f"0x{STEPS}", **DEATHS)],
        # Nobody is routed to it.
        [series(names.REPLICA_READY.name, f"0x{STEPS}", **DEATHS)],
    ),
    "LastgoodNoTraffic": Case([SHARE, requests("ok", 0)], [SHARE, requests("ok", 1)], at="20m", interval="30s"),
    "LastgoodGatewayDown": Case([series("up", f"0x{STEPS}", job="lastgood")], [series("up", f"0x{STEPS}", job="other")]),
    "LastgoodRefusing": Case([requests("refused", 5), requests("ok", 100)], [requests("refused", 1), requests("ok", 1000)]),
    "LastgoodDiskFull": Case([series(names.FREE.name, f"400000000x{STEPS}")], [series(names.FREE.name, f"600000000x{STEPS}")]),
    "LastgoodWithdrawn": Case(
        [series(names.WITHDRAWALS.name, f"0x30 1x{STEPS - 30}", model="m", cause="judge")],
        [series(names.WITHDRAWALS.name, f"1x{STEPS}", model="m", cause="judge")],
    ),
    "LastgoodFrozen": Case([series(names.FROZEN.name, f"1x{STEPS}", model="m")], [series(names.FROZEN.name, f"0x{STEPS}", model="m")]),
    "LastgoodPersonNeeded": Case(
        [series(names.PAGES.name, f"0x30 1x{STEPS - 30}", model="m")],
        [series(names.PAGES.name, f"1x{STEPS}", model="m")],
    ),
    "LastgoodCandidateWorse": Case(
        [SHARE, *beside(candidate=3, baseline=0)],
        # Both fail alike: what they share is to blame.
        [SHARE, *beside(candidate=3, baseline=3)],
    ),
    "LastgoodReplicaRestarts": Case(
        [series(names.REPLICA_DEATHS.name, f"0x5 1x9 2x9 3x9 4x{STEPS - 32}", **DEATHS)],
        # Those are many enough within a minute for another alert.
        [series(names.REPLICA_DEATHS.name, f"0+1x{STEPS}", **DEATHS)],
    ),
    "LastgoodEventChainBroken": Case(
        [series(names.CHAIN_BROKEN.name, f"1x{STEPS}")],
        [series(names.CHAIN_BROKEN.name, f"0x{STEPS}")],
    ),
    "LastgoodAccuracy": Case(
        labelled(per_minute=10, right=8),
        # 0.88 of 600 is below 0.9, and so may be a version that is right in 0.9.
        labelled(per_minute=50, right=44, every=5),
        at="2h",
        interval="1m",
    ),
    "LastgoodDrift": Case(drift(evidence=8, meaning="retrain"), drift(evidence=8, meaning="none"), at="10m", interval="15s"),
    "LastgoodObserverDown": Case([series(names.OBSERVER_UP.name, f"0x{STEPS}")], [series(names.OBSERVER_UP.name, f"1x{STEPS}")]),
    "LastgoodObserverBehind": Case(
        [series(names.OBSERVER_DROPPED.name, f"0x5 7x{STEPS * 3}", model="m")],
        [series(names.OBSERVER_DROPPED.name, f"7x{STEPS * 3}", model="m")],
        at="2m",
    ),
    "LastgoodPredictionsUnwritten": Case(
        [series(names.PREDICTION_LOG_FAILURES.name, f"0x30 1x{STEPS - 30}", model="m")],
        [series(names.PREDICTION_LOG_FAILURES.name, f"1x{STEPS}", model="m")],
    ),
    "LastgoodUnrecorded": Case(
        [series(names.UNRECORDED.name, f"1x{STEPS * 3}")], [series(names.UNRECORDED.name, f"0x{STEPS * 3}")], at="2m"
    ),
}


def test_every_rule_has_a_case_that_fires_it_and_one_that_does_not() -> None:
    """A new rule without both is not tested."""
    assert sorted(CASES) == sorted(rule.name for rule in build_rules())


def test_every_metric_a_rule_reads_is_one_we_export() -> None:
    """A misspelt name would make an alert that never fires."""
    exported = {metric.name for metric in names.METRICS} | {f"{m.name}_bucket" for m in names.METRICS if m.kind == "histogram"}
    read = {name for rule in build_rules() for name in re.findall(r"\blastgood_\w+", rule.expression)}
    assert read <= exported
    assert read


def test_every_rule_says_how_bad_it_is_what_it_asks_for_and_where_its_page_is() -> None:
    """Whoever is woken must know."""
    for rule in rules(SIGNALS)["groups"][0]["rules"]:
        assert {"severity", "action"} == set(rule["labels"])
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert f"docs/runbooks/{rule['alert']}.md" == rule["annotations"]["runbook_url"]
        assert rule["annotations"]["summary"]


def test_every_rule_that_may_roll_back_names_a_model_and_a_version() -> None:
    """Otherwise the gateway would ignore it."""
    for rule in build_rules():
        if rule.action != "none":
            assert "(model, version" in rule.expression or "increase" in rule.expression


@pytest.mark.system
def test_promtool_fires_each_rule_when_it_must_and_not_when_it_must_not(tmp_path: Path) -> None:
    """By Prometheus' own rule tests."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules(SIGNALS)), "utf-8")
    tests: dict[str, list[dict[str, Any]]] = {}
    for rule in build_rules(SIGNALS.window):
        case = CASES[rule.name]
        for input_series, fires in ((case.fires, True), (case.quiet, False)):
            tests.setdefault(case.interval, []).append(
                {
                    "interval": case.interval,
                    "input_series": input_series,
                    "promql_expr_test": [
                        {
                            "expr": f'count(ALERTS{{alertname="{rule.name}",alertstate="firing"}}) or vector(0)',
                            "eval_time": case.at,
                            "exp_samples": [{"labels": "{}", "value": 1 if fires else 0}],
                        }
                    ],
                }
            )
    # The rules are evaluated at the pace of the samples: two hours by the second would take a minute.
    for interval, own in tests.items():
        written = {"rule_files": ["rules.yml"], "evaluation_interval": interval, "tests": own}
        (tmp_path / f"tests-{interval}.yml").write_text(yaml.safe_dump(written), "utf-8")
    files = [f"tests-{interval}.yml" for interval in tests]
    done = subprocess.run(["promtool", "test", "rules", *files], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.system
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("promtool", ("check", "config", "prometheus.yml")),
        ("promtool", ("check", "rules", "rules.yml")),
        ("amtool", ("check-config", "alertmanager.yml")),
    ],
)
def test_the_configurations_pass_their_programs_own_check(tmp_path: Path, program: str, arguments: tuple[str, ...]) -> None:
    """With a token file too."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install prometheus prometheus-alertmanager)")
    token = tmp_path / "token"
    token.write_text("secret", "utf-8")
    write_configuration(tmp_path, Signals("127.0.0.1:8002", "127.0.0.1:19093", token_file=token))
    done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
