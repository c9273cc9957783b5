"""
The judge beside the rules of Flagger, Argo Rollouts and Kayenta, on the same traffic.

    python benchmarks/peers.py [--repeat 200] [--json] [--docs]

The three rules are written from their documentation, with the values its examples and advice give; ``--docs`` writes
docs/judge.md and docs/judge.svg. Simulated; nothing waits for a clock.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from releases import Array, Traffic, level, release

from lastgood.render import Table, draw_groups
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import State

DOCS = Path(__file__).parents[1] / "docs"
MINUTE = 60


@dataclass(frozen=True)
class Fate:
    """What a rule did: took the version out, or promoted it and looked no more."""

    out: bool
    seconds: float
    requests: float  # all traffic until then
    bad_answers: float  # the candidate's


Rule = Callable[[Traffic, float, np.random.Generator], Fate]


def outage(per_second: float) -> Callable[[Array], Array]:
    """One in a thousand on both roles, and one in twenty from the third to the thirteenth minute."""
    return lambda numbers: np.where((numbers >= 180 * per_second) & (numbers < 780 * per_second), 0.05, 0.001)


BAD = {"every answer": 1.0, "20 %": 0.2, "2 %": 0.02}
RATES = (10.0, 100.0)


def bad_traffic(rate: float, per_second: float) -> Traffic:
    """Give the traffic of a bad version beside one with an error in a thousand."""
    return Traffic(level(rate), level(0.001), per_second)


def good_traffic(per_second: float) -> dict[str, Traffic]:
    """Give the traffic of versions that are as good as what they replace."""
    found = {"0.1 % on both": level(0.001), "1 % on both": level(0.01), "5 % on both for ten minutes": outage(per_second)}
    return {name: Traffic(rates, rates, per_second) for name, rates in found.items()}


def count_bad(
    rates: Callable[[Array], Array], share: float, minute: int, per_second: float, random: np.random.Generator
) -> tuple[int, int]:
    """Draw a minute of one role; give its requests and how many of them were bad."""
    arriving = round(MINUTE * per_second)
    requests = int(random.binomial(arriving, share))
    rate = float(rates(np.arange(minute * arriving, (minute + 1) * arriving, max(1, arriving // 60))).mean())
    return requests, int(random.binomial(requests, rate))


def run_flagger(traffic: Traffic, per_second: float, random: np.random.Generator) -> Fate:
    """
    Check the canary's success rate each minute: below 99 % is a failed check, and ten failed checks take it back.

    Each check that passes gives it 5 % more, up to 50 %; then it is promoted.

    Source: Flagger, "How it works" (interval 1m, threshold 10, maxWeight 50, stepWeight 5) and "Metrics analysis"
    (request-success-rate, min 99, interval 1m).
    """
    weight, failed, bad_answers, minute = 0.05, 0, 0, 0
    while True:
        requests, bad = count_bad(traffic.candidate, weight, minute, per_second, random)
        bad_answers, minute = bad_answers + bad, minute + 1
        if requests and 1 - bad / requests < 0.99:
            failed += 1
            if failed == 10:
                return _end(minute, per_second, bad_answers, out=True)
        elif weight >= 0.5:
            return _end(minute, per_second, bad_answers, out=False)
        else:
            weight = round(weight + 0.05, 2)


def run_argo(traffic: Traffic, per_second: float, random: np.random.Generator) -> Fate:
    """
    Measure the canary's success rate each five minutes from the second step on: three below 95 % abort.

    20 % more each ten minutes; after 80 % it is promoted. The rate is taken over the whole five minutes, which is steadier than
    the example's irate.

    Source: Argo Rollouts, "Analysis & progressive delivery", background analysis (interval 5m, successCondition result >=
    0.95, failureLimit 3, startingStep 2, setWeight 20, 40, 60, 80 with pauses of 10m).
    """
    failed = bad_answers = 0
    window: list[tuple[int, int]] = []
    for minute in range(40):
        window.append(count_bad(traffic.candidate, 0.2 * (1 + minute // 10), minute, per_second, random))
        bad_answers += window[-1][1]
        passed = minute + 1
        if passed >= 10 and passed % 5 == 0:
            requests, bad = (sum(own) for own in zip(*window[-5:], strict=True))
            failed += bool(requests) and 1 - bad / requests < 0.95
            if failed == 3:
                return _end(passed, per_second, bad_answers, out=True)
    return _end(40, per_second, bad_answers, out=False)


def run_kayenta(traffic: Traffic, per_second: float, random: np.random.Generator) -> Fate:
    """
    Compare the canary's error ratio by the minute with an equal baseline's, after one, two and three hours.

    10 % of the traffic each. Too high where the lower end of the 98 % interval of the Hodges-Lehmann shift is above a quarter
    of the estimate's size; one such run fails the canary.

    Source: Spinnaker, "Best practices for configuring canary" (lifetime 3 hours, interval 1 hour, an equal baseline) and "How
    canary judgment works" (Mann-Whitney U at 98 %, tolerance 0.25).
    """
    canary: list[float] = []
    baseline: list[float] = []
    bad_answers = 0
    for minute in range(180):
        for rates, series in ((traffic.candidate, canary), (traffic.baseline, baseline)):
            requests, bad = count_bad(rates, 0.1, minute, per_second, random)
            series.append(bad / requests if requests else 0.0)
            bad_answers += bad if series is canary else 0
        if (minute + 1) % 60 == 0 and is_high(np.array(canary), np.array(baseline)):
            return _end(minute + 1, per_second, bad_answers, out=True)
    return _end(180, per_second, bad_answers, out=False)


def is_high(canary: Array, baseline: Array, *, z: float = 2.3263, tolerance: float = 0.25) -> bool:
    """
    Say whether the canary's values are higher by the judge's rule.

    Source of the interval: Hollander, Wolfe, "Nonparametric statistical methods", 1973, section 4.3, normal approximation.
    """
    if sorted(canary) == sorted(baseline):
        return False
    shifts = np.sort(np.subtract.outer(canary, baseline).ravel())
    count, other = len(canary), len(baseline)
    below = max(0, math.floor(count * other / 2 - z * math.sqrt(count * other * (count + other + 1) / 12)))
    return bool(shifts[below] > tolerance * abs(float(np.median(shifts))))


def run_lastgood(traffic: Traffic, per_second: float, random: np.random.Generator) -> Fate:
    """Judge by the product's default policy until the version is out or stable."""
    own = Traffic(traffic.candidate, traffic.baseline, per_second)
    ended = release(RolloutPolicy(), own, round(3 * 3600 * per_second), random)
    return Fate(ended.state is State.WITHDRAWN, ended.requests / per_second, ended.requests, ended.bad_answers)


def _end(minutes: int, per_second: float, bad_answers: int, *, out: bool) -> Fate:
    return Fate(out, minutes * MINUTE, minutes * MINUTE * per_second, bad_answers)


RULES: dict[str, Rule] = {"lastgood": run_lastgood, "Flagger": run_flagger, "Argo Rollouts": run_argo, "Kayenta": run_kayenta}


def measure(repeat: int, seed: int = 11) -> list[dict[str, Any]]:
    """Run every rule on every traffic; give a row for each."""
    rows = []
    for per_second in RATES:
        kinds: list[tuple[Literal["bad", "good"], str, Traffic]] = [
            *(("bad", name, bad_traffic(rate, per_second)) for name, rate in BAD.items()),
            *(("good", name, own) for name, own in good_traffic(per_second).items()),
        ]
        for kind, name, traffic in kinds:
            for rule, run in RULES.items():
                random = np.random.default_rng(seed)
                fates = [run(traffic, per_second, random) for _ in range(repeat)]
                caught = [fate for fate in fates if fate.out] or fates
                rows.append(
                    {
                        "version": kind,
                        "errors": name,
                        "per_second": per_second,
                        "rule": rule,
                        "out": sum(fate.out for fate in fates) / repeat,
                        "seconds": float(np.median([fate.seconds for fate in caught])),
                        "requests": float(np.median([fate.requests for fate in caught])),
                        "bad_answers": float(np.median([fate.bad_answers for fate in caught])),
                    }
                )
    return rows


def make_table(rows: list[dict[str, Any]]) -> tuple[Table, Table]:
    """Give two tables: bad versions, and good ones."""
    bad = [row for row in rows if row["version"] == "bad"]
    good = [row for row in rows if row["version"] == "good"]
    return (
        Table(
            "Bad versions, beside one with 0.1 % of errors",
            ("errors", "requests a second", "rule", "taken out", "seconds", "requests", "bad answers"),
            tuple(
                (
                    row["errors"],
                    f"{row['per_second']:g}",
                    row["rule"],
                    f"{row['out']:.0%}",
                    *_write_fate(row),
                )
                for row in bad
            ),
        ),
        Table(
            "Good versions: as many errors as what they replace",
            ("errors", "requests a second", *(f"{rule}: taken out" for rule in RULES)),
            tuple(
                (name, f"{per_second:g}", *(f"{_find(good, name, per_second, rule)['out']:.1%}" for rule in RULES))
                for per_second in RATES
                for name in good_traffic(per_second)
            ),
        ),
    )


def _write_fate(row: dict[str, Any]) -> tuple[str, str, str]:
    if not row["out"]:
        return ("never", "never", f"{row['bad_answers']:,.0f} until promoted")
    seconds, requests, bad = (
        f"{row[name]:,.1f}" if row[name] < 10 else f"{row[name]:,.0f}" for name in ("seconds", "requests", "bad_answers")
    )
    return seconds, requests, bad


def _find(rows: list[dict[str, Any]], errors: str, per_second: float, rule: str) -> dict[str, Any]:
    return next(row for row in rows if (row["errors"], row["per_second"], row["rule"]) == (errors, per_second, rule))


def _is_first(rows: list[dict[str, Any]], row: dict[str, Any]) -> bool:
    return all(row["seconds"] <= _find(rows, row["errors"], row["per_second"], rule)["seconds"] for rule in RULES)


def draw(rows: list[dict[str, Any]]) -> str:
    """Draw the bad answers until a version is out, at ten requests a second."""
    groups = {
        f"{errors} bad": {
            rule: max(1.0, _find(rows, errors, 10.0, rule)["bad_answers"]) for rule in RULES if _find(rows, errors, 10.0, rule)["out"] > 0.5
        }
        for errors in BAD
    }
    return draw_groups("Bad answers until the version is out, at 10 requests a second (median)", groups, label="bad answers")


PAGE = """# The judge beside other rules

Written by `python benchmarks/peers.py --docs`: {repeat} releases for each row, simulated on the same traffic. lastgood runs its own judge,
course and table with the default policy (10 %, 50 %, then 90 % beside the baseline). The others are written from their documentation,
with the values of its examples:

- **Flagger**: each minute, a success rate below 99 % is a failed check; ten take the version back; 5 % more traffic for each check that
  passes, promoted at 50 % ([how it works](https://docs.flagger.app/usage/how-it-works), [metrics](https://docs.flagger.app/usage/metrics)).
- **Argo Rollouts**: 20 % more each ten minutes; from the second step on, each five minutes, a success rate below 95 % is a failure; three
  abort ([analysis](https://argo-rollouts.readthedocs.io/en/stable/features/analysis/)).
- **Kayenta**: the error ratio by the minute against an equal baseline's, 10 % of the traffic each, after one, two and three hours:
  Mann-Whitney at 98 % with a tolerance of a quarter ([judge](https://spinnaker.io/docs/guides/user/canary/judge/),
  [best practices](https://spinnaker.io/docs/guides/user/canary/best-practices/)).

Thresholds of one's own make them faster or slower; none of the three corrects for looking again, and the first two compare with a number,
not with the version that serves. "Never" means: promoted, and not looked at any more.

![Bad answers until the version is out](judge.svg)

{bad}
{good}
lastgood's promise is at most 1 in 1,000 good versions taken out, however often it looks; `python benchmarks/judge.py` measures it.
"""


def main() -> int:
    """Run, print or write, and say by the exit code whether the judge was first and took no good version out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--docs", action="store_true", help="write docs/judge.md and docs/judge.svg")
    arguments = parser.parse_args()
    rows = measure(arguments.repeat)
    bad, good = make_table(rows)
    if arguments.docs:
        DOCS.joinpath("judge.svg").write_text(draw(rows) + "\n", "utf-8")
        DOCS.joinpath("judge.md").write_text(PAGE.format(repeat=arguments.repeat, bad=bad.to_markdown(), good=good.to_markdown()), "utf-8")
    if arguments.json:
        print(json.dumps(rows))
    else:
        for table in (bad, good):
            print(table.to_markdown())
    ours = [row for row in rows if row["rule"] == "lastgood"]
    slower = [row for row in ours if row["version"] == "bad" and not _is_first(rows, row)]
    # Two in a hundred: what 200 releases can show of one in a thousand.
    wrong = [row for row in ours if row["version"] == "good" and row["out"] > 0.02]
    return 1 if slower or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
