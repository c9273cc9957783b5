"""
Many models in one gateway: how long a start takes, what memory they need, what sleeping saves and costs, and whether a model that is
flooded takes anything from one that is asked now and then.

    python benchmarks/many_models.py [--models 100] [--up 20] [--rounds 3] [--seconds 4] [--json]

A real gateway; each model is the MLP of benchmarks/serving (30-64-32-2) with weights of its own name. Every model is asked in turn over
one connection: with all of them up, and with room (`loaded_bytes`) for some, when in turn is the worst order, for each request
wakes the model that has slept longest. The neighbours: one connection asks one model, beside 60 that flood another whose queue
(32 requests) is full, each with one request under way, and with 64 (pipelined); and 60 with 64 whose queue has room for all of that.
Clients are processes of their own.
"""

import argparse
import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from place import Place, print_figures

from lastgood.ports import free_ports
from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.replicas import ReplicaSettings, ServingSettings
from lastgood.serving.gateway.rollouts.state import ModelState
from lastgood.serving.gateway.sleep.footprint import measure_bytes
from lastgood.serving.rollout.table import Pin
from lastgood.settings import Settings, load_settings
from lastgood.tensors import TensorSpec

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "serving"))
from models import build_mlp  # noqa: E402 - a folder of scripts

FLOODED, QUIET, ROOMY, FLOODS, DEEP, QUEUE = "m000", "m001", "m002", 60, 64, 32
MIB = 1 << 20


@contextmanager
def open_many(models: int) -> Iterator[Place]:
    """Make an installation with that many models, each live; its gateway is not started. Everything is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="lastgood-many-"))
    rest, control = free_ports(2)
    fresh = {"project": folder, "home": folder / ".lastgood", "database": None, "files": None, "token_file": None, "host": "127.0.0.1"}
    ports = {"port_rest": rest, "port_control": control, "port_grpc": 0}
    settings = load_settings(folder).model_copy(update={**fresh, **ports})
    place = Place(settings, {})
    try:
        register(settings, folder, [f"m{number:03d}" for number in range(models)])
        yield place
    finally:
        place.stop()
        shutil.rmtree(folder, ignore_errors=True)


def register(settings: Settings, folder: Path, names: Sequence[str]) -> None:
    """Register a version of each model and let it be live, as after a release of long ago."""
    now = datetime.now(UTC).isoformat()
    with Registry.open(settings, writer="cli") as registry:
        for name in names:
            data = build_mlp(name).data
            path = folder / f"{name}.onnx"
            path.write_bytes(data)
            entry = FileEntry("model.onnx", len(data), hashlib.sha256(data).hexdigest())
            content = Content((entry,), (TensorSpec("x", "FP32", (-1, 30)),), (TensorSpec("y", "FP32", (-1, 2)),), 0)
            version = registry.register(name, content, {"model.onnx": path}, Record("benchmark", "one of many"), actor="benchmark")
            pin = Pin(version.number, version.digest)
            state = ModelState(name, pin, pin, (pin,), None, {pin.digest: now})
            with registry.transaction() as transaction:
                transaction.write_route(name, state.to_json(), expected=0)


def start(place: Place, loaded_bytes: int | None) -> float:
    """Start the gateway and give the seconds until everything that must be up is."""
    serving = ServingSettings(loaded_bytes=loaded_bytes, models={FLOODED: ReplicaSettings(queue_requests=QUEUE)})
    place.settings = place.settings.model_copy(update={"serving": serving})
    began = time.monotonic()
    place.start()
    return time.monotonic() - began


def measure_memory(place: Place) -> dict[str, Any]:
    """Give the memory of the gateway and of its replicas, in bytes."""
    gateway = psutil.Process(place.pid())
    pss, rss = [], []
    for child in gateway.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # put to sleep in this moment
            if "lastgood.serving.replica" in child.cmdline() and (own := measure_bytes([child.pid])) is not None:
                pss.append(own)
                rss.append(child.memory_info().rss)
    return {
        "replicas": len(pss),
        "gateway_pss_bytes": measure_bytes([gateway.pid]),
        "gateway_rss_bytes": gateway.memory_info().rss,
        "replicas_pss_bytes": sum(pss),
        "replicas_rss_bytes": sum(rss),
    }


def begin(place: Place, connections: int, depth: int, seconds: float, models: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a client."""
    numbers = (place.settings.port_rest, connections, depth, seconds)
    return subprocess.Popen([sys.executable, str(HERE / "asking.py"), *map(str, numbers), *models], stdout=subprocess.PIPE)


def finish(client: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    """Give what a client saw that asked for so long, its whole time if 0."""
    out, _ = client.communicate(timeout=seconds + 150)
    found: dict[str, Any] = json.loads(out)
    return found


def ask_in_turn(place: Place, names: Sequence[str], rounds: int) -> dict[str, Any]:
    """Ask each model once, so many times."""
    began = time.monotonic()
    found = finish(begin(place, 1, 1, 0, list(names) * rounds), 0)
    return {**found, "per_second": len(names) * rounds / (time.monotonic() - began)}


def read_metric(place: Place, name: str) -> float:
    """Give the sum over a metric's series."""
    lines = httpx.get(f"{place.settings.control_url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


def measure_neighbours(place: Place, seconds: float) -> list[dict[str, Any]]:
    """Ask the quiet model alone, and beside three kinds of floods."""
    rows = []
    for title, depth, model in (
        ("alone", 0, FLOODED),
        (f"beside {FLOODS} connections", 1, FLOODED),
        (f"beside {FLOODS}, {DEEP} deep", DEEP, FLOODED),
        (f"beside {FLOODS}, {DEEP} deep, with room", DEEP, ROOMY),
    ):
        flood = begin(place, FLOODS, depth, seconds + 2, [model]) if depth else None
        time.sleep(1)  # until the flood flows
        quiet = finish(begin(place, 1, 1, seconds, [QUIET]), seconds)
        flooded = finish(flood, seconds + 2) if flood is not None else None
        rows.append({"title": title, "per_second": quiet["answered"] / seconds, "quiet": quiet, "flooded": flooded})
    return rows


def measure(models: int, up: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Do everything once."""
    names = [f"m{number:03d}" for number in range(models)]
    with open_many(models) as place:
        found: dict[str, Any] = {"models": models, "up": up, "start_seconds": start(place, None), "memory": measure_memory(place)}
        found["in_turn"] = ask_in_turn(place, names, rounds)
        found["neighbours"] = measure_neighbours(place, seconds)
        place.stop()
        each = found["memory"]["replicas_pss_bytes"] / found["memory"]["replicas"]
        found["loaded_bytes"] = int(max(30 * MIB, each) * 1.1 * (up + 0.5))  # fewer share their pages: each has more of them
        found["limited_start_seconds"] = start(place, found["loaded_bytes"])
        found["limited_memory"] = measure_memory(place)
        found["limited_in_turn"] = ask_in_turn(place, names, rounds)
        found["wakes"] = read_metric(place, "lastgood_wakes_total")
        found["evictions"] = read_metric(place, "lastgood_evictions_total")
        found["sleeping"] = read_metric(place, "lastgood_sleeping")
        found["limited_memory_after"] = measure_memory(place)
    return found


def report(found: Mapping[str, Any]) -> None:
    """Print it."""
    rows = []
    for prefix, title in (("", "all up"), ("limited_", f"room for {found['up']}")):
        memory, turn = found[f"{prefix}memory"], found[f"{prefix}in_turn"]
        replicas = f"{memory['replicas_pss_bytes'] / MIB:,.0f} MiB PSS, {memory['replicas_rss_bytes'] / MIB:,.0f} MiB RSS"
        rows += [
            (f"{title}: seconds to start", "-", f"{found[f'{prefix}start_seconds']:.1f}"),
            (f"{title}: gateway's memory", "-", f"{memory['gateway_pss_bytes'] / MIB:,.0f} MiB PSS"),
            (f"{title}: memory of {memory['replicas']} processes", "-", replicas),
            (f"{title}: in turn, not answered", "0", f"{turn['refused'] + turn['other']} of {found['models']} x rounds"),
            (f"{title}: in turn, p50 and p95", "-", f"{turn['p50_seconds'] * 1000:.1f} ms, {turn['p95_seconds'] * 1000:.1f} ms"),
        ]
    rows.append(("woken, put to sleep, asleep at the end", "-", f"{found['wakes']:.0f}, {found['evictions']:.0f}, {found['sleeping']:.0f}"))
    for own in found["neighbours"]:
        quiet, flooded = own["quiet"], own["flooded"]
        beside = "" if flooded is None else f"; the flood: {flooded['answered']:,} answered, {flooded['refused']:,} refused"
        rows.append(
            (
                f"a quiet model {own['title']}",
                "-",
                (
                    f"{own['per_second']:,.0f}/s, p50 {quiet['p50_seconds'] * 1000:.2f} ms, p99 {quiet['p99_seconds'] * 1000:.2f} ms, "
                    f"{quiet['refused'] + quiet['other']} not answered{beside}"
                ),
            )
        )
    print_figures(f"{found['models']} models in one gateway", rows)


def main() -> int:
    """Measure and print; exit code 1 when a request was not answered that should have been."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--up", type=int, default=20, help="for how many there is room")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each row of the table of neighbours")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not 3 <= arguments.models <= 999 or not 1 <= arguments.up < arguments.models:
        parser.error("expected 3 to 999 models, and room for fewer than that")
    found = measure(arguments.models, arguments.up, arguments.rounds, arguments.seconds)
    print(json.dumps(found)) if arguments.json else report(found)
    turns = (found["in_turn"], found["limited_in_turn"], *(own["quiet"] for own in found["neighbours"]))
    return int(any(own["refused"] + own["other"] for own in turns))


if __name__ == "__main__":
    sys.exit(main())
