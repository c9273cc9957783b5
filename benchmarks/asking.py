"""
A client as a process of its own: so many connections, on each so many requests under way, for so many seconds, or one round.

    python benchmarks/asking.py PORT CONNECTIONS DEPTH SECONDS MODEL...

Connections ask the models in turn; with SECONDS 0, one connection asks each model once, in order. It prints JSON: how many
were answered, refused (503) and neither, and seconds to the answers.
"""

import asyncio
import json
import re
import sys
import time
from collections import Counter, deque
from itertools import cycle
from typing import Any

import numpy as np
import uvloop

FEATURES = 30
_LENGTH = re.compile(rb"content-length: (\d+)")


def make_request(model: str) -> bytes:
    """Give a request with one row, as bytes of HTTP."""
    row = np.random.default_rng(0).normal(size=FEATURES).round(4).tolist()
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, FEATURES], "data": row}]}).encode()
    return b"POST /v2/models/%s/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (model.encode(), len(body), body)


class Asker(asyncio.Protocol):
    """One connection that always has ``depth`` requests under way."""

    def __init__(self, requests: list[bytes], depth: int, *, ends: bool) -> None:
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        self.closed = asyncio.get_running_loop().create_future()
        self._requests = iter(requests) if ends else cycle(requests)
        self._depth = depth
        self._sent: deque[float] = deque()
        self._data = b""
        self._stopped = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        for _ in range(self._depth):
            self._ask()

    def _ask(self) -> None:
        request = None if self._stopped else next(self._requests, None)
        if request is not None:
            self._sent.append(time.perf_counter())
            self._transport.write(request)
        elif not self._sent and not self.done.done():
            self.done.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._data += data
        at = 0
        while (end := self._data.find(b"\r\n\r\n", at)) >= 0:
            found = _LENGTH.search(self._data, at, end)
            after = end + 4 + int(found[1]) if found else end + 4
            if len(self._data) < after:
                break
            status = self._data[at + 9 : at + 12].decode()
            took = time.perf_counter() - self._sent.popleft()
            self.statuses[status] += 1
            if status == "200":
                self.seconds.append(took)
            at = after
            self._ask()
        self._data = self._data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed.set_result(None)
        self.statuses["lost"] += len(self._sent)
        if not self.done.done():
            self.done.set_result(None)

    def stop(self) -> None:
        """Ask no more; `done` when the last answer is there."""
        self._stopped = True

    def close(self) -> None:
        """Close the connection; `closed` when it is."""
        self._transport.close()


async def ask(port: int, connections: int, depth: int, seconds: float, models: list[str]) -> dict[str, Any]:
    """Ask, and give what came."""
    requests, loop = list(map(make_request, models)), asyncio.get_running_loop()
    askers = []
    for _ in range(connections):
        _, asker = await loop.create_connection(lambda: Asker(requests, depth, ends=seconds == 0), "127.0.0.1", port)
        askers.append(asker)
    if seconds:
        await asyncio.sleep(seconds)
        for asker in askers:
            asker.stop()
    async with asyncio.timeout(120):
        await asyncio.gather(*(asker.done for asker in askers))
        for asker in askers:
            asker.close()
        await asyncio.gather(*(asker.closed for asker in askers))
    statuses = sum((asker.statuses for asker in askers), Counter[str]())
    took = [seconds for asker in askers for seconds in asker.seconds]
    quantiles = np.quantile(took, [0.5, 0.95, 0.99]).tolist() if took else [None] * 3
    return {
        "answered": statuses.pop("200", 0),
        "refused": statuses.pop("503", 0),
        "other": statuses.total(),
        **dict(zip(("p50_seconds", "p95_seconds", "p99_seconds"), quantiles, strict=True)),
    }


if __name__ == "__main__":
    port, connections, depth = map(int, sys.argv[1:4])
    print(json.dumps(uvloop.run(ask(port, connections, depth, float(sys.argv[4]), sys.argv[5:]))))
