"""
Swaps and rollbacks under constant load: nothing failed, wrong, hung, or attributed to another version.

    python benchmarks/swaps.py [--swaps 20] [--json]

Each swap rolls a new version out (direct, then promoted), each rollback takes it back to the first version.
"""

import argparse
import asyncio
import json
import sys
from typing import Any

import numpy as np
from place import NEVER, Place, constant_load, open_place, print_figures, until


async def swap(place: Place, swaps: int) -> dict[str, Any]:
    """Swap and roll back that often; give what the load saw."""
    with place.control() as control:
        place.deploy(control, 1)
        await until(control, "soaking")
        async with constant_load(place.settings.port_rest) as load:
            await until(control, "stable")
            steady = len(load.latencies)
            await asyncio.sleep(1)
            calm = np.quantile(load.latencies[steady:], 0.99)
            begun = len(load.latencies)
            for number in range(2, swaps + 2):
                place.deploy(control, number, strategy="direct", soak_requests=NEVER)
                await until(control, "soaking")
                await asyncio.to_thread(control.promote, "scale", actor="benchmark", why="swap")
                await asyncio.to_thread(control.rollback, "scale", to=None, keep=True, actor="benchmark", why="back")
            busy = np.quantile(load.latencies[begun:], 0.99)
            state = control.state("scale")
    return {
        **load.summary(),
        "swaps": swaps,
        "rollbacks": swaps,
        "versions_seen": len(load.by_version),
        "live": state["live"]["number"],
        "p99_calm_ms": round(float(calm) * 1000, 2),
        "p99_swapping_ms": round(float(busy) * 1000, 2),
        "statuses": dict(load.statuses),
    }


def main() -> int:
    """Run, print, and say by the exit code whether nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with open_place(arguments.swaps + 1) as place:
        result = asyncio.run(swap(place, arguments.swaps))
    lost = sum(result[name] for name in ("failed", "wrong", "hung", "misattributed"))
    if arguments.json:
        print(json.dumps(result))
    else:
        rows = [(name, "0", str(result[name])) for name in ("failed", "wrong", "hung", "misattributed")]
        rows += [
            ("requests", "-", str(result["asked"])),
            ("versions that answered", str(arguments.swaps + 1), str(result["versions_seen"])),
        ]
        rows += [("p99 ms, calm and swapping", "-", f"{result['p99_calm_ms']} and {result['p99_swapping_ms']}")]
        print_figures(f"{arguments.swaps} swaps and {arguments.swaps} rollbacks under load", rows)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
