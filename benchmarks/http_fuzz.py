"""
Millions of wrong and right requests against the real data plane.

    python benchmarks/http_fuzz.py [--inputs 1000000] [--seconds N] [--seed 1] [--json]

The plane runs in another process with a small model in a replica. An input is one connection: well-formed requests with ids of
their own, then perhaps a mutation of the corpus, then a sentinel, all of it cut anywhere. Whatever happens to the middle, the
first must get exactly their own answers, and the sentinel its own, or the connection must have ended with a refusal.
"""

import argparse
import json
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from http_fuzz_check import judge
from http_fuzz_inputs import Case, Maker

TOGETHER = 32  # connections
PATIENCE = 5.0  # s, for a connection to end after its client stopped sending


def play(cases: list[Case], port: int) -> None:
    """Send cases side by side and keep what comes back."""
    sending = list(cases)
    for case in cases:
        case.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        case.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while sending:
        for case in list(sending):
            piece = next(case.pieces, None)
            sock = case.sock
            if sock is None:
                continue
            try:
                if piece is not None:
                    sock.sendall(piece)
                    continue
                sock.shutdown(socket.SHUT_WR)
            except OSError:  # it was refused, and the server has gone: what it said is there to be read
                pass
            sending.remove(case)
    for case in cases:
        sock = case.sock
        if sock is not None:
            pieces = []
            while data := sock.recv(1 << 16):
                pieces.append(data)
            case.answer = b"".join(pieces)
            sock.close()


def leave(case: Case, port: int) -> None:
    """Send a case and reset the connection without reading."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(case.data)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def fuzz(port: int, inputs: int, seconds: float, seed: int) -> tuple[Counter[str], list[str], int, float]:
    """Give counts by outcome, what must not be, how many inputs, and the seconds taken."""
    maker = Maker(seed)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    done, begin = 0, time.monotonic()
    while done < inputs and time.monotonic() - begin < seconds and len(wrong) < 20:
        cases = [maker.case() for _ in range(min(TOGETHER, inputs - done))]
        try:
            play(cases, port)
        except OSError as exc:
            wrong.append(f"{exc!r} among {[case.data for case in cases if not case.answer]!r:.2000}")
            continue
        for case in cases:
            try:
                counts[judge(case)] += 1
            except ValueError as exc:
                wrong.append(f"{exc}\n  sent {case.data!r:.1500}\n  got  {case.answer!r:.1500}")
        done += len(cases)
        if maker.random.random() < 0.2:
            leave(maker.case(), port)
            counts["left without reading"] += 1
            done += 1
    return counts, wrong, done, time.monotonic() - begin


def run(inputs: int, seconds: float, seed: int) -> dict[str, Any]:
    """Fuzz a plane of its own; give what came, and what must not be."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        server = Path(__file__).with_name("fuzzed_plane.py")
        with subprocess.Popen([sys.executable, str(server), folder], stdout=subprocess.PIPE, stderr=log) as process:
            try:
                port = json.loads(process.stdout.readline())["port"]  # type: ignore[union-attr]
                counts, wrong, done, took = fuzz(port, inputs, seconds, seed)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)
        log.seek(0)
        text = log.read()
    if process.returncode != 0 or "Traceback" in text or "failed (" in text:
        wrong.append(f"the server ended with {process.returncode}; its log: {text[-3000:]}")
    return {"inputs": done, "seconds": round(took, 1), "seed": seed, "outcomes": dict(counts.most_common()), "wrong": wrong}


def main() -> int:
    """Fuzz and print a table; exit code 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = run(arguments.inputs, arguments.seconds, arguments.seed)
    done, took, wrong = found["inputs"], found["seconds"], found["wrong"]
    if arguments.json:
        print(json.dumps(found))
        return 1 if wrong else 0
    for outcome, count in found["outcomes"].items():
        print(f"{count:>10,}  {outcome}")
    print(f"{done:>10,}  inputs in {took} s, {done / max(took, 0.1):,.0f}/s, seed {arguments.seed}; {len(wrong)} wrong")
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
