"""
The gateway beside other model servers: the same ONNX file, the same session settings, the same numbers in JSON.

    python benchmarks/serving/run.py [--peers fastapi,mlserver,...] [--models mlp,cnn,mobilenet] [--connections 1,64] [--pairs 5]
        [--seconds 5] [--interpreted] [--json] [--docs]

Ours is the product as images have it, compiled: validation, limits, metrics, the prediction log, and a canary of which each of two versions
gets half under the judge. Each peer has an environment of its own, made on first use below ~/.cache/lastgood-bench, and a
simple configuration. Load is from `wrk` (Debian: apt-get install wrk). Runs alternate and ratios are within a
pair, for this machine is shared; ``--docs`` writes docs/serving-peers.md and docs/serving-peers.svg.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from formats import BINARY
from load import Run, run_wrk, write_script
from models import BUILDERS, Model
from peer_servers import PEERS, RUNTIME
from report import OURS_BINARY, Record, draw, make_tables, write_page
from servers import NotServingError, Server, open_ours, open_peer

sys.path.insert(0, str(Path(__file__).parents[1]))  # the other benchmarks are scripts, too
import compiled
from environments import NotInstalledError, list_versions, make_environment

from lastgood.runtime import measure_latency, open_session

DOCS = Path(__file__).parents[2] / "docs"
BINARY_MODELS = ("cnn", "mobilenet")  # whose tensors are large enough for their form to matter
_WARM_UP_SECONDS = 1.0


@dataclass(frozen=True)
class Plan:
    """How to measure each pair of servers."""

    connections: tuple[int, ...]
    pairs: int  # of runs, in turns
    seconds: float  # each


def measure_raw(model: Model) -> dict[str, float]:
    """Time ONNX Runtime in this process, one thread: seconds of a call with one row, and of a row in a call with 32."""
    session = open_session(model.data)
    row = model.rows()[:1].astype(np.float32)
    one = measure_latency(session, {"x": row}, seconds=2.0)
    many = measure_latency(session, {"x": np.repeat(row, 32, axis=0)}, seconds=2.0)
    return {"batch_1_seconds": one.p50_seconds, "batch_32_row_seconds": many.p50_seconds / 32}


def _list_requirements(name: str) -> list[str]:
    return [*RUNTIME, *PEERS[name].requirements]


def compare_peer(model: Model, name: str, plan: Plan) -> list[Record]:
    """
    Run ours and a peer in turns; give a record for each number of connections.

    Raises:
        NotInstalledError: The peer cannot be installed here.
        NotServingError: One of the two does not start, or answers wrongly, or our rollout ended.
    """
    python = make_environment(name, _list_requirements(name))
    with open_peer(name, python, model) as peer, open_ours(model) as (ours, read_state):
        return compare(model, ours, peer, read_state, plan)


def compare_binary(model: Model, plan: Plan) -> list[Record]:
    """
    Run ours with JSON and ours with binary tensors in turns, on one gateway.

    Raises:
        NotServingError: The gateway does not start, or does not speak the binary extension.
    """
    with open_ours(model) as (ours, read_state):
        return compare(model, ours, replace(ours, name=OURS_BINARY, format=BINARY), read_state, plan)


def compare(model: Model, ours: Server, peer: Server, read_state: Callable[[], str], plan: Plan) -> list[Record]:
    """
    Check both, then run them in turns.

    Raises:
        NotServingError: One of the two answers wrongly, or our rollout ended.
    """
    with ExitStack() as stack:
        scripts: dict[str, Path] = {}
        for server in (ours, peer):
            server.check(model)
            scripts[server.name] = stack.enter_context(write_script(server.path, server.bodies(model)))

        def run(server: Server, connections: int, seconds: float) -> Run:
            script, find_family = scripts[server.name], server.find_family
            return run_wrk(server.url, script, connections=connections, seconds=seconds, find_family=find_family)

        records = []
        for connections in plan.connections:
            for server in (ours, peer):
                run(server, connections, _WARM_UP_SECONDS)
            found = []
            for index in range(plan.pairs):
                order = (ours, peer) if index % 2 == 0 else (peer, ours)
                runs = {server.name: run(server, connections, plan.seconds).to_json() for server in order}
                found.append({"ours": runs[ours.name], "peer": runs[peer.name]})
                _tell(model, peer.name, connections, found[-1])
            records.append({"model": model.name, "peer": peer.name, "connections": connections, "pairs": found})
    if (state := read_state()) != "canary":
        raise NotServingError(f"lastgood's rollout is {state} at the end, not canary: it did not serve two versions throughout")
    return records


def _tell(model: Model, name: str, connections: int, pair: dict[str, dict[str, float]]) -> None:
    ours, peer = pair["ours"], pair["peer"]
    print(
        f"{model.name}, {connections}: {ours['per_second']:,.0f}/s, {name} {peer['per_second']:,.0f}/s;"
        f" others kept {max(ours['others'], peer['others']):.1f} cores busy",
        file=sys.stderr,
        flush=True,
    )


def describe_machine() -> dict[str, Any]:
    """Give what the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    processor = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    return {"processor": processor, "cores": os.cpu_count(), "python": platform.python_version()}


def measure(peers: list[str], models: list[str], plan: Plan) -> dict[str, Any]:
    """Measure everything that can be, and say of the rest why not."""
    built = [BUILDERS[name]() for name in models]
    result: dict[str, Any] = {
        "machine": describe_machine(),
        "pairs": plan.pairs,
        "seconds": plan.seconds,
        "compiled": compiled.COMPILED,
        "raw": {model.name: measure_raw(model) for model in built},
        "records": [],
        "missing": [],
        "versions": {},
    }
    for model in built:
        for name in peers:
            _add(result, model, name, partial(compare_peer, model, name, plan))
        if model.name in BINARY_MODELS:
            _add(result, model, OURS_BINARY, partial(compare_binary, model, plan))
    result["versions"] = {
        name: list_versions(name, _list_requirements(name)) for name in peers if any(record["peer"] == name for record in result["records"])
    }
    return result


def _add(result: dict[str, Any], model: Model, name: str, run: Callable[[], list[Record]]) -> None:
    try:
        result["records"] += run()
    except (NotInstalledError, NotServingError) as exc:
        why = f"{'not installed' if isinstance(exc, NotInstalledError) else 'not measured'}: {exc}"
        result["missing"].append({"model": model.name, "peer": name, "why": why})
        print(f"{model.name}, {name}: {why}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print or write, and say by the exit code whether ours gave every answer and was first by CPU at 64 connections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=lambda text: _choose(text, PEERS), default=list(PEERS))
    parser.add_argument(
        "--models",
        type=lambda text: _choose(text, BUILDERS),
        default=["mlp", "cnn"],
        help="default: mlp,cnn; mobilenet takes long where bodies are a megabyte",
    )
    parser.add_argument("--connections", type=lambda text: tuple(int(own) for own in text.split(",")), default=(1, 64))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--docs", action="store_true", help="write docs/serving-peers.md and docs/serving-peers.svg")
    parser.add_argument("--interpreted", action="store_true", help="ours as it runs in a checkout, not compiled as in images")
    arguments = parser.parse_args()
    if not arguments.interpreted:
        compiled.enter()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed. Debian: apt-get install wrk")
    result = measure(arguments.peers, arguments.models, Plan(arguments.connections, arguments.pairs, arguments.seconds))
    if arguments.docs:
        DOCS.joinpath("serving-peers.svg").write_text(draw(result) + "\n", "utf-8")
        DOCS.joinpath("serving-peers.md").write_text(write_page(result), "utf-8")
    if arguments.json:
        print(json.dumps(result))
    else:
        print("\n".join(table.to_markdown() for table in make_tables(result)))
    failed = sum(pair["ours"]["failed"] for record in result["records"] for pair in record["pairs"])
    busy = [record for record in result["records"] if record["connections"] > 1 and record["peer"] in PEERS]
    dearer = [
        record
        for record in busy
        if statistics.median(pair["peer"]["cpu_seconds"] / pair["ours"]["cpu_seconds"] for pair in record["pairs"]) < 1
    ]
    return 1 if failed or dearer or not result["records"] else 0


def _choose(text: str, known: Any) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
