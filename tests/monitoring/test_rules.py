"""Alert rules and configurations, by Prometheus' and Alertmanager's own checkers."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

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
# For each rule: series under which it fires within a minute, and the nearest under which it does not.
CASES: dict[str, tuple[list[dict[str, str]], list[dict[str, str]]]] = {
    "LastgoodFailing": (
        [requests("failed", 30), requests("ok", 5)],
        # Both versions fail: something else is to blame.
        [requests("failed", 30), requests("ok", 5), requests("failed", 30, "1"), requests("ok", 5, "1")],
    ),
    "LastgoodInvalidOutputs": ([requests("invalid", 10), requests("ok", 20)], [requests("invalid", 1), requests("ok", 40)]),
    "LastgoodCrashLoop": (
        [series(names.REPLICA_DEATHS.name, f"0+1x{STEPS}", **DEATHS)],
        [series(names.REPLICA_DEATHS.name, f"0x30 1x{STEPS - 30}", **DEATHS)],
    ),
    "LastgoodErrorRatio": ([requests("failed", 2), requests("ok", 20)], [requests("failed", 1), requests("ok", 100)]),
    "LastgoodLatency": (latency(50, 50), latency(10_000, 1)),
    "LastgoodReplicaDown": (
        [SHARE, series(names.REPLICA_READY.name, f"0x{STEPS}", **DEATHS)],
        # Nobody is routed to it.
        [series(names.REPLICA_READY.name, f"0x{STEPS}", **DEATHS)],
    ),
    "LastgoodNoTraffic": ([SHARE, requests("ok", 0)], [SHARE, requests("ok", 1)]),
    "LastgoodGatewayDown": ([series("up", f"0x{STEPS}", job="lastgood")], [series("up", f"0x{STEPS}", job="other")]),
    "LastgoodWithdrawn": (
        [series(names.WITHDRAWALS.name, f"0x30 1x{STEPS - 30}", model="m", cause="judge")],
        [series(names.WITHDRAWALS.name, f"1x{STEPS}", model="m", cause="judge")],
    ),
    "LastgoodFrozen": ([series(names.FROZEN.name, f"1x{STEPS}", model="m")], [series(names.FROZEN.name, f"0x{STEPS}", model="m")]),
    "LastgoodPersonNeeded": (
        [series(names.PAGES.name, f"0x30 1x{STEPS - 30}", model="m")],
        [series(names.PAGES.name, f"1x{STEPS}", model="m")],
    ),
    "LastgoodUnrecorded": ([series(names.UNRECORDED.name, f"1x{STEPS * 3}")], [series(names.UNRECORDED.name, f"0x{STEPS * 3}")]),
}
# The few that need longer than a minute.
EVALUATED_AT = {"LastgoodNoTraffic": "20m", "LastgoodUnrecorded": "2m"}


def test_every_rule_has_a_case_that_fires_it_and_one_that_does_not() -> None:
    """A new rule without both is not tested."""
    assert sorted(CASES) == sorted(rule.name for rule in build_rules())


def test_every_metric_a_rule_reads_is_one_we_export() -> None:
    """A misspelt name would make an alert that never fires."""
    exported = {metric.name for metric in names.METRICS} | {f"{m.name}_bucket" for m in names.METRICS if m.kind == "histogram"}
    read = {name for rule in build_rules() for name in re.findall(r"\blastgood_\w+", rule.expression)}
    assert read <= exported
    assert read


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
    tests: list[dict[str, Any]] = []
    for rule in build_rules(SIGNALS.window):
        at = EVALUATED_AT.get(rule.name, f"{STEPS}s")
        firing, quiet = CASES[rule.name]
        interval = "30s" if rule.name == "LastgoodNoTraffic" else "1s"
        for input_series, fires in ((firing, True), (quiet, False)):
            tests.append(
                {
                    "interval": interval,
                    "input_series": input_series,
                    "promql_expr_test": [
                        {
                            "expr": f'count(ALERTS{{alertname="{rule.name}",alertstate="firing"}}) or vector(0)',
                            "eval_time": at,
                            "exp_samples": [{"labels": "{}", "value": 1 if fires else 0}],
                        }
                    ],
                }
            )
    # promtool evaluates the rules at the test's own pace.
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1s", "tests": tests}), "utf-8")
    done = subprocess.run(["promtool", "test", "rules", "tests.yml"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
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
