"""
What a process for each version costs: the gateway beside one that computes in its own process, all else being equal.

    python benchmarks/serving/isolation.py [--pairs 5] [--seconds 5] [--json]

The MLP in JSON, two versions under the judge. Asked: 35 µs of the median latency at 1 connection, 2 µs of processor time of a
request at 64.
"""

import argparse
import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path

from models import BUILDERS
from run import Plan, compare
from servers import open_ours

from lastgood.render import Table

sys.path.insert(0, str(Path(__file__).parents[1]))  # the other benchmarks are scripts, too
import compiled

OTHER = (sys.executable, str(Path(__file__).with_name("unisolated_gateway.py")))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    compiled.enter()
    model = BUILDERS["mlp"]()
    with open_ours(model, command=OTHER) as (here, _), open_ours(model) as (ours, read_state):
        found = compare(model, ours, replace(here, name="in process"), read_state, Plan((1, 64), arguments.pairs, arguments.seconds))
    if arguments.json:
        print(json.dumps(found))
        return 0
    rows = []
    for record in found:
        latencies = [(pair["ours"]["p50_seconds"] - pair["peer"]["p50_seconds"]) * 1e6 for pair in record["pairs"]]
        costs = [(pair["ours"]["cpu_seconds"] - pair["peer"]["cpu_seconds"]) * 1e6 for pair in record["pairs"]]
        rows.append(
            (
                str(record["connections"]),
                *(f"{statistics.median(own):.0f} ({min(own):.0f} to {max(own):.0f})" for own in (latencies, costs)),
            )
        )
    columns = ("connections", "µs of the median latency", "µs of processor time of a request")
    print(Table("What isolation costs: pairs of runs, median and range", columns, tuple(rows)).to_markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
