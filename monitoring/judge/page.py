"""The page of a decision: its evidence drawn over the requests, and the counts it was made of, as one HTML file."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lastgood.monitoring.judge.receipt import recompute, write_odds
from lastgood.monitoring.judge.replay import Moment, list_moments
from lastgood.monitoring.judge.verdict import JudgePolicy
from lastgood.render import Table, draw_lines

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}caption{text-align:left;font-weight:600;padding:.3rem 0}"
    "th,td{border-bottom:1px solid #ddd;padding:.25rem .7rem;text-align:right}th:first-child,td:first-child{text-align:left}"
    "svg{max-width:100%;height:auto}"
)
COUNTED = ("requests", "failed", "invalid", "slow", "deaths", "labelled", "wrong")


def write_page(title: str, fields: Sequence[tuple[str, Any]], receipt: Mapping[str, Any]) -> str:
    """
    Give the page of a decision's receipt; nothing in it is fetched from elsewhere.

    Args:
        title: What happened to which version.
        fields: Names and values to begin with.
        receipt: As `lastgood.monitoring.judge.receipt.write_receipt` gave it.

    Raises:
        IntegrityError: It is not a receipt of a format this version reads.
    """
    again = recompute(receipt)
    steps = receipt["steps"]
    counts = Table(
        "What was counted",
        ("step", "share", "role", *COUNTED),
        tuple(
            (str(number), f"{step['share']:.0%}", role, *(str(step[role].get(name, 0)) for name in COUNTED))
            for number, step in enumerate(steps, start=1)
            for role in ("candidate", "baseline")
        ),
    )
    tests = Table(
        "Evidence, computed again",
        ("events", "e-value", "convicts at"),
        tuple((test.kind, write_odds(test.log_evidence), write_odds(test.log_threshold)) for test in again.verdict.tests),
    )
    verdict = again.verdict
    said = f"Recomputed: {verdict.decision} ({verdict.kind}); recorded: {again.recorded['decision']} ({again.recorded['kind']})."
    if not again.agrees:
        said += " They do not agree: the receipt was changed, or the judge has."
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in fields)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1><dl>{facts}</dl>{draw_evidence(receipt)}<p>{escape(said)}</p>{counts.to_html()}{tests.to_html()}"
        "</body></html>\n"
    )


def draw_evidence(receipt: Mapping[str, Any]) -> str:
    """Draw ln e of each test over the requests, with its threshold, as SVG; a thin line is where the share changed."""
    policy, has_baseline = JudgePolicy(**receipt["policy"]), receipt["has_baseline"]
    moments = [Moment([]), *list_moments(receipt)]
    lines: dict[str, list[tuple[float, float]]] = {}
    levels: dict[str, float] = {}
    for moment in moments:
        for test in moment.judge(policy, has_baseline=has_baseline).tests:
            lines.setdefault(test.kind, []).append((moment.requests, test.log_evidence))
            levels[test.kind] = test.log_threshold
    told = {kind: points for kind, points in lines.items() if any(y > 0 for _, y in points)} or lines
    last = moments[-1].steps
    cuts = [Moment(last[:number]).requests for number in range(1, len(last))]
    return draw_lines(
        "Evidence that the candidate is worse than tolerated",
        told,
        x_label="requests dealt to both roles",
        y_label="ln e (dashed: convicts)",
        levels=levels,
        cuts=cuts,
    )
