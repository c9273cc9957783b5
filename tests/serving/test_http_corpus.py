"""Every entry of the corpus of right and wrong requests, however it is cut; and a short run of what mutates it."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.serving.conftest import Tools

CORPUS = Path(__file__).with_name("http_corpus.txt")
FUZZER = Path(__file__).resolve().parents[2] / "benchmarks" / "http_fuzz.py"
ENTRIES = [line.split(" ", 1) for line in CORPUS.read_text("ascii").splitlines() if line and not line.startswith("#")]


def find_statuses(answers: bytes) -> list[int]:
    """Give the statuses in a stream of answers; refusals quote requests, but no status line."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n", answers)]


@pytest.mark.parametrize("size", [1, 3, 1_000_000])
def test_the_corpus(run: Callable[[Callable[[], Awaitable[None]]], None], tools: "Tools", size: int) -> None:
    """Statuses are as written, and what comes behind a refusal has no answer."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await try_all(gateway.plane.port)

    async def try_all(port: int) -> None:
        for statuses, text in ENTRIES:
            data = text.encode().decode("unicode_escape").encode("latin-1")
            expected = [int(status) for status in statuses.rstrip("$").split(",")]
            behind = b"" if statuses.endswith("$") else b"\r\nGET /v2 HTTP/1.1\r\nHost: t\r\n\r\n"
            async with tools.connect(port) as client:
                for start in range(0, len(data + behind), size):
                    client.send((data + behind)[start : start + size])
                    if size < 100:
                        await asyncio.sleep(0)  # the server reads this piece alone
                client.writer.write_eof()
                answers = await client.read_to_end()
            found = find_statuses(answers)
            asked_to_end = b" HTTP/1.0\r\n\r\n" in data or b"close\r\n" in data
            ended = behind == b"" or expected[-1] != 404 or asked_to_end
            assert (expected if ended else [*expected, 200]) == found, (text, answers)

    run(scenario)


def test_mutated_requests_desynchronise_nothing() -> None:
    """A few thousand connections of the fuzzer against a real plane in another process."""
    command = [sys.executable, str(FUZZER), "--inputs", "3000", "--seconds", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "all well-formed, all answered" in done.stdout
