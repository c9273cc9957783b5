"""
What the store makes of real files, and how fast, beside other ways of keeping them.

    python benchmarks/store/run.py [--versions 10] [--heads 20] [--same 50] [--gib 2] [--no-peers] [--json]

Trains the models (some minutes), registers every file in throwaway registries and weighs all that these wrote, then does the same with
DVC, MLflow, git-lfs (where it is installed), ZipNN and zstd. Speeds are of one core, in the same run as `cp` and `sha256sum`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))  # the other benchmarks are scripts, too
import sizes
import speed
from environments import NotInstalledError
from files import HEADS, RATES
from place import print_figures
from sizes import File

HERE: Final = Path(__file__).parent
MB: Final = 1e6
ASKED: Final = {"retrains at 1e-4": 0.63, "retrains at 1e-5": 0.46, "heads with int8 files": 0.10, "the same file": 0.021}
DIFFERENCE_ASKED: Final = 0.97  # of XOR's bytes
SPEEDS: Final = {"whole put": 100, "whole restore": 400, "deepest put": 100, "deepest restore": 100}
MEMORY: Final = 512 << 20


def list_sets(folder: Path, same: int) -> dict[str, list[File]]:
    """Give the sets of files, in the order they are registered."""
    lines = {rate: sorted((folder / rate).iterdir()) for rate in (*RATES, HEADS)}
    found: dict[str, list[File]] = {f"retrains at {rate}": [("digits", file) for file in lines[rate]] for rate in RATES}
    found["heads with int8 files"] = [(file.stem.partition("-")[2] or "digits", file) for file in lines[HEADS]]
    found["the same file"] = [(f"model-{number}", lines[RATES[0]][0]) for number in range(same)]
    return found


def weigh(files: Sequence[File], measure: Any) -> float:
    """Give what files weigh somewhere, over their own bytes."""
    with tempfile.TemporaryDirectory(prefix="lastgood-store-") as name:
        return float(measure(files, Path(name)) / sum(file.stat().st_size for _, file in files))


def measure(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure everything asked for."""
    command = [sys.executable, str(HERE / "files.py"), str(folder), "--versions", str(asked.versions), "--heads", str(asked.heads)]
    subprocess.run(command, check=True)
    sets = list_sets(folder, asked.same)
    found: dict[str, Any] = {"sizes": {name: {"lastgood": weigh(files, sizes.weigh_ours)} for name, files in sets.items()}, "missing": {}}
    for peer, weigh_peer in sizes.list_peers().items() if asked.peers else ():
        try:
            for name, files in sets.items():
                print(f"{peer}: {name}", file=sys.stderr, flush=True)
                found["sizes"][name][peer] = weigh(files, weigh_peer)
        except NotInstalledError as exc:
            found["missing"][peer] = str(exc)
    pairs = [sizes.compare_differences([own for _, own in sets[f"retrains at {rate}"]]) for rate in RATES]
    found["difference_over_xor"] = sum(own for own, _ in pairs) / sum(own for _, own in pairs)
    with tempfile.TemporaryDirectory(prefix="lastgood-store-") as name:
        found["bytes_per_second"] = speed.measure_chain(Path(name), asked.repeat)
    if asked.gib:
        with tempfile.TemporaryDirectory(prefix="lastgood-store-") as name:
            script = f"import speed, pathlib; print(speed.measure_memory(pathlib.Path({name!r}), {asked.gib} << 30))"
            done = subprocess.run([sys.executable, "-c", script], cwd=HERE, check=True, capture_output=True, text=True)
            found["resident_bytes"] = int(done.stdout)
    return found


def find_missed(found: dict[str, Any]) -> list[str]:
    """Name what is not as asked."""
    missed = [name for name, most in ASKED.items() if found["sizes"][name]["lastgood"] > most]
    missed += ["difference over XOR"] if found["difference_over_xor"] > DIFFERENCE_ASKED else []
    missed += [name for name, least in SPEEDS.items() if found["bytes_per_second"][name] < least * MB]
    return missed + (["resident"] if found.get("resident_bytes", 0) > MEMORY else [])


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    rows = [
        (name, f"{ASKED[name]} or less" if who == "lastgood" else "", f"{ratio:.4f} {who}")
        for name, ratios in found["sizes"].items()
        for who, ratio in ratios.items()
    ]
    print_figures("Stored bytes over the files' own, the catalogue included", rows)
    print_figures("Differences", [("ordered integers over XOR", f"{DIFFERENCE_ASKED} or less", f"{found['difference_over_xor']:.4f}")])
    rates = found["bytes_per_second"]
    speeds = [(name, f"{SPEEDS[name]} or more" if name in SPEEDS else "", f"{rate / MB:.0f} MB/s") for name, rate in rates.items()]
    print_figures("One core, 64 MiB of float32 in eight tensors; the deepest version is read through three others", speeds)
    if "resident_bytes" in found:
        print_figures("A large file in and out", [("most resident", f"{MEMORY >> 20} MiB", f"{found['resident_bytes'] / 2**20:.0f} MiB")])
    for peer, why in found["missing"].items():
        print(f"not measured: {peer}: {why}")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=10)
    parser.add_argument("--heads", type=int, default=20)
    parser.add_argument("--same", type=int, default=50)
    parser.add_argument("--gib", type=int, default=2, help="of the large file; 0: none")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lastgood-store-") as name:
        found = measure(Path(name) / "files", asked)
    found["missed"] = find_missed(found)
    if asked.json:
        print(json.dumps(found, indent=2))
    else:
        show(found)
    return 1 if found["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
