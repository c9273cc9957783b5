"""What was measured, as tables, a picture and a page."""

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from models import BUILDERS
from peer_servers import PEERS

from lastgood.render import Table, draw_groups

Record = dict[str, Any]
OURS_BINARY = "lastgood with binary tensors"
_RATIOS: tuple[tuple[str, Callable[[Record], float]], ...] = (
    ("requests/s: ours over it", lambda pair: pair["ours"]["per_second"] / pair["peer"]["per_second"]),
    ("p50: it over ours", lambda pair: pair["peer"]["p50_seconds"] / pair["ours"]["p50_seconds"]),
    ("p99: it over ours", lambda pair: pair["peer"]["p99_seconds"] / pair["ours"]["p99_seconds"]),
    ("CPU per request: it over ours", lambda pair: pair["peer"]["cpu_seconds"] / pair["ours"]["cpu_seconds"]),
)


def make_tables(result: Record) -> list[Table]:
    """Give a table of ratios and one of figures for each model and number of connections, then the limits and what is missing."""
    tables = []
    for model in result["raw"]:
        for connections in sorted({record["connections"] for record in result["records"]}):
            records = [own for own in result["records"] if (own["model"], own["connections"]) == (model, connections)]
            if records:
                where = f"{BUILDERS[model]().title}, {connections} connection{'s' * (connections > 1)}"
                tables += [_make_ratios(where, records), _make_figures(where, records)]
    tables.append(_make_limits(result))
    if result["missing"]:
        rows = tuple((_title(own["peer"]), own["model"], own["why"]) for own in result["missing"])
        tables.append(Table("Not measured here", ("server", "model", "why"), rows))
    return tables


def _title(name: str) -> str:
    return PEERS[name].title if name in PEERS else name


def _make_ratios(where: str, records: list[Record]) -> Table:
    rows = tuple(
        (_title(record["peer"]), *(_write_ratio([ratio(pair) for pair in record["pairs"]]) for _, ratio in _RATIOS)) for record in records
    )
    return Table(f"{where}: ratios within pairs, above 1 is for lastgood", ("server", *(name for name, _ in _RATIOS)), rows)


def _write_ratio(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _make_figures(where: str, records: list[Record]) -> Table:
    columns = ("server", "requests/s", "p50 ms", "p99 ms", "CPU µs per request", "cores", "failed", "cores busy with others")
    ours = [pair["ours"] for record in records for pair in record["pairs"]]
    rows = [("lastgood", *_write_figures(ours))]
    rows += [(_title(record["peer"]), *_write_figures([pair["peer"] for pair in record["pairs"]])) for record in records]
    return Table(f"{where}: medians", columns, tuple(rows))


def _write_figures(runs: list[Record]) -> tuple[str, ...]:
    def middle(name: str) -> float:
        return statistics.median(run[name] for run in runs)

    return (
        f"{middle('per_second'):,.0f}",
        f"{middle('p50_seconds') * 1e3:.2f}",
        f"{middle('p99_seconds') * 1e3:.2f}",
        f"{middle('cpu_seconds') * 1e6:,.0f}",
        f"{middle('cores'):.2f}",
        f"{sum(run['failed'] for run in runs):g}",
        f"{middle('others'):.2f}",
    )


def _make_limits(result: Record) -> Table:
    rows = []
    for model, raw in result["raw"].items():
        limit = 1 / raw["batch_32_row_seconds"]
        busiest = max((record["connections"] for record in result["records"]), default=64)
        many, one = _find_ours(result, model, busiest), _find_ours(result, model, 1)
        binary = _find_binary(result, model, busiest)
        rows.append(
            (
                BUILDERS[model]().title,
                f"{raw['batch_1_seconds'] * 1e6:,.1f}",
                f"{raw['batch_32_row_seconds'] * 1e6:,.1f}",
                *(f"{_middle(runs) / limit:.0%} at {busiest}" if runs else "-" for runs in (many, binary)),
                f"{(statistics.median(run['p50_seconds'] for run in one) - raw['batch_1_seconds']) * 1e6:,.0f}" if one else "-",
            )
        )
    columns = (
        "model",
        "one row, µs",
        "a row of 32, µs",
        "lastgood's requests/s at so many connections, of one core's rows/s at 32",
        "the same with binary tensors",
        "lastgood's p50 at 1 connection without the model's time, µs",
    )
    return Table("ONNX Runtime alone, in one process on one core", columns, tuple(rows))


def _find_ours(result: Record, model: str, connections: int) -> list[Record]:
    return [
        pair["ours"]
        for record in result["records"]
        if (record["model"], record["connections"]) == (model, connections)
        for pair in record["pairs"]
    ]


def _find_binary(result: Record, model: str, connections: int) -> list[Record]:
    wanted = (model, OURS_BINARY, connections)
    records = [record for record in result["records"] if (record["model"], record["peer"], record["connections"]) == wanted]
    return [pair["peer"] for record in records for pair in record["pairs"]]


def draw(result: Record) -> str:
    """Draw the requests a second at 64 connections."""
    groups: dict[str, dict[str, float]] = {}
    for model in result["raw"]:
        title = BUILDERS[model]().title
        if ours := _find_ours(result, model, 64):
            groups.setdefault("lastgood", {})[title] = _middle(ours)
        for record in result["records"]:
            if (record["model"], record["connections"]) == (model, 64):
                groups.setdefault(_title(record["peer"]), {})[title] = _middle(pair["peer"] for pair in record["pairs"])
    return draw_groups("Requests a second at 64 connections (median)", groups, label="requests a second")


def _middle(runs: Iterable[Record]) -> float:
    return statistics.median(run["per_second"] for run in runs)


PAGE = """# Serving beside other servers

Written by `python benchmarks/serving/run.py --docs`: {pairs} pairs of {seconds:g} s for each row, on {cores} cores ({processor}), Python
{python}. The machine was shared meanwhile, so **the figures are provisional**; ratios are within pairs of runs, one after the other, and
the last column of each table of figures says how much of the machine others took.

Every server has the same ONNX file, opens it with the same session settings (one thread, `lastgood.runtime.open_session`), and is sent the
same numbers as JSON in the form that is its own. Each server's answers to all requests, asked for at the same time, were compared with
ONNX Runtime's first. Weights are drawn, not trained. lastgood runs as in its image,
{compiled}: validation, limits, metrics, the prediction log, and a canary in which two versions get half each under the judge.

![Requests a second at 64 connections](serving-peers.svg)

{tables}
## What is not comparable

- **Cores.** lastgood computes in replicas, one process for each version, beside the gateway and the observer; wrk takes a core, too. What a
  server kept busy is in the column "cores"; CPU per request is what the work costs whatever the number of cores.
- **Work.** None of the others splits traffic, judges, or keeps requests and answers. Some check less of what they are sent.
- **Configuration.** One process or worker each, as their guides begin; pytriton joins requests, the others do not: of LitServe,
  BentoML and Ray Serve it was tried in one short run on the MLP each, between 10 % less and 8 % more at 64 connections, and not on the CNN.
  More workers would use more cores.
- **Encoding.** Everybody is sent JSON. Where lastgood's gateway speaks the protocol's binary extension, it is measured beside its own JSON
  on the CNN.
- **Beside.** Both servers of a pair run throughout, and the one that is not asked takes what it takes when idle.

| server | processes | versions |
| --- | --- | --- |
{versions}

## To repeat it

```
apt-get install wrk
python benchmarks/serving/run.py --docs
```

Each peer is installed into an environment of its own below `~/.cache/lastgood-bench`, which is kept; the versions are in
`benchmarks/serving/peer_servers.py`.
"""


def write_page(result: Record) -> str:
    """Write the page."""
    lines = []
    for name, versions in result["versions"].items():
        peer = PEERS[name]
        lines.append(f"| {peer.title} | {peer.shape} | {', '.join(f'{own} {version}' for own, version in versions.items())} |")
    tables = "\n".join(table.to_markdown() for table in make_tables(result))
    return PAGE.format(
        pairs=result["pairs"],
        seconds=result["seconds"],
        tables=tables,
        versions="\n".join(lines),
        compiled="compiled" if result["compiled"] else "but not compiled",
        **result["machine"],
    )
