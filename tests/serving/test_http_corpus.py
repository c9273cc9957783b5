"""Every entry of the corpus of right and wrong requests, however it is cut; and a short run of what mutates it."""

import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lastgood.serving.gateway.plane import DataPlane

if TYPE_CHECKING:
    from tests.serving.conftest import Tools

CORPUS = Path(__file__).with_name("http_corpus.txt")
FUZZER = Path(__file__).resolve().parents[2] / "benchmarks" / "http_fuzz.py"
ENTRIES = [line.split(" ", 1) for line in CORPUS.read_text("ascii").splitlines() if line and not line.startswith("#")]


def find_statuses(answers: bytes) -> list[int]:
    """Give the statuses in a stream of answers."""
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("size", [1, 3, 1_000_000])
def test_the_corpus(run: Callable[[Callable[[], Awaitable[None]]], None], tools: "Tools", size: int) -> None:
    """Statuses are as written, and what comes behind a refusal has no answer."""

    async def scenario() -> None:
        plane = DataPlane("127.0.0.1", 0)
        await plane.start()
        for statuses, text in ENTRIES:
            data = text.encode().decode("unicode_escape").encode("latin-1")
            expected = [int(status) for status in statuses.rstrip("$").split(",")]
            behind = b"" if statuses.endswith("$") else b"\r\nGET /v2 HTTP/1.1\r\nHost: t\r\n\r\n"
            async with tools.connect(plane.port) as client:
                for start in range(0, len(data + behind), size):
                    client.send((data + behind)[start : start + size])
                    if size < 100:
                        await client.writer.drain()
                client.writer.write_eof()
                answers = await client.read_to_end()
            ended = statuses.endswith("$") or expected[-1] != 404 or b"connection: close" in answers.split(b"HTTP/1.1 ")[len(expected)]
            assert (expected if ended else [*expected, 200]) == find_statuses(answers), (text, answers)
        await plane.drain(1)

    run(scenario)


def test_mutated_requests_desynchronise_nothing() -> None:
    """A few thousand connections of the fuzzer against a real plane in another process."""
    command = [sys.executable, str(FUZZER), "--inputs", "3000", "--seconds", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "all well-formed, all answered" in done.stdout
