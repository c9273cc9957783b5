"""Load from wrk, and the processor time that a server's processes spend meanwhile."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from formats import Body

# What wrk knows at its end, as one line of JSON; latencies in microseconds.
_DONE = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\\n{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "status": %d, "broken": %d, "timeout": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write, errors.timeout))
end
"""


@dataclass(frozen=True)
class Run:
    """One run of wrk."""

    per_second: float  # answers, of any status
    p50_seconds: float
    p99_seconds: float
    cpu_seconds: float  # user and system time per answer, of all of the server's processes
    cores: float  # how many it kept busy on average
    others: float  # cores that were busy with neither the server nor wrk: what the machine's other users took
    failed: int  # answers of another status than 2xx or 3xx, lost connections, and time-outs

    def to_json(self) -> dict[str, float]:
        """Give the figures by name."""
        return asdict(self)


@contextmanager
def write_script(path: str, bodies: Sequence[Body]) -> Iterator[Path]:
    """Write a script for wrk that sends the bodies round and round; requests are put together before the clock starts."""
    with tempfile.TemporaryDirectory(prefix="lastgood-wrk-") as name:
        script = Path(name) / "requests.lua"
        lines = ["local requests, at = {}, 0", "init = function(args)"]
        for body in bodies:
            headers = ", ".join(f"[{_quote(own.encode())}] = {_quote(value.encode())}" for own, value in body.headers.items())
            lines.append(f'  requests[#requests + 1] = wrk.format("POST", "{path}", {{{headers}}}, {_quote(body.data)})')
        lines += ["end", "request = function()", "  at = at % #requests + 1", "  return requests[at]", "end", _DONE]
        script.write_text("\n".join(lines), "ascii")
        yield script


def _quote(data: bytes) -> str:
    """Give a Lua string of any bytes."""
    return '"' + "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in data) + '"'


def run_wrk(url: str, script: Path, *, connections: int, seconds: float, find_family: Callable[[], list[psutil.Process]]) -> Run:
    """Load a server and give what was seen."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s", "-s", str(script), url]
    before, before_all = sum_cpu(find_family()), _sum_busy()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    spent, others = sum_cpu(find_family()) - before, _sum_busy() - before_all
    if done.stderr:
        raise SystemExit(f"wrk says: {done.stderr.strip()}")  # of a script that it cannot read, and then sends something else
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    duration = found["microseconds"] / 1e6
    return Run(
        found["requests"] / duration,
        found["p50"] / 1e6,
        found["p99"] / 1e6,
        spent / max(1, found["requests"]),
        spent / duration,
        max(0.0, others - spent) / duration,
        found["status"] + found["broken"] + found["timeout"],
    )


def sum_cpu(family: list[psutil.Process]) -> float:
    """Give the seconds that processes spent, with those of their children that ended and were waited for."""
    total = 0.0
    for process in family:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _sum_busy() -> float:
    """Give the seconds the machine's cores were busy since it started, without what this program waited for."""
    times, own = psutil.cpu_times(), os.times()
    waited = own.user + own.system + own.children_user + own.children_system
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)) - waited
