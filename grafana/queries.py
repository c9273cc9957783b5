"""The expressions that both dashboards ask, written from the table of metric names."""

from lastgood.grafana.panels import WINDOW
from lastgood.monitoring.signals import names

BAD = "failed|invalid|timeout"
ANSWERED = f"ok|{BAD}"


def rate(metric: names.Metric, selector: str, by: str, suffix: str = "") -> str:
    """Give events per second, summed up by labels."""
    return f"sum by ({by}) (rate({metric.name}{suffix}{{{selector}}}[{WINDOW}]))"


def bad_ratio(selector: str, by: str, more: str = "") -> str:
    """
    Give the part of the answered requests that went badly.

    Args:
        selector: Which requests.
        by: Labels that the ratio is given for.
        more: Labels that tell bad ones apart beside, such as the outcome.
    """
    joined = ",".join(filter(None, (by, more)))
    bad = rate(names.REQUESTS, ",".join(filter(None, (selector, f'outcome=~"{BAD}"'))), joined)
    answered = rate(names.REQUESTS, ",".join(filter(None, (selector, f'outcome=~"{ANSWERED}"'))), by)
    return f"{bad} / on ({by}) group_left () {answered}" if more else f"{bad} / {answered}"


def quantile(metric: names.Metric, q: float, selector: str, by: str) -> str:
    """Give a quantile of a histogram."""
    return f"histogram_quantile({q}, {rate(metric, selector, f'{by},le', '_bucket')})"


def mean(metric: names.Metric, selector: str, by: str) -> str:
    """Give the mean of a histogram."""
    return f"{rate(metric, selector, by, '_sum')} / {rate(metric, selector, by, '_count')}"


def state_number(selector: str) -> str:
    """Give the place of a rollout's state in `names.STATES`, from 1 on: one series for each model and version."""
    parts = []
    for number, state in enumerate(names.STATES, start=1):
        chosen = ",".join(filter(None, (selector, f'state="{state}"')))
        parts.append(f"{number} * {names.ROLLOUT_STATE.name}{{{chosen}}}")
    return f"max by (model,version) ({' or '.join(parts)})"
