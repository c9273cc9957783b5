"""What is tried again, when and how often: against a small real server that refuses, breaks off and dawdles, and as properties."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpcore
import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.errors import LastgoodError, UnavailableError, UsageError
from lastgood.serving.client import (
    Answer,
    AnswerBrokenOffError,
    AsyncPredictor,
    DeadlineError,
    GatewayAwayError,
    ModelFailedError,
    Predictor,
    RetryPolicy,
)
from lastgood.serving.client.retries import RetryBudget, Tries, read_retry_after
from lastgood.settings import Settings

Run = Callable[[Callable[[], Awaitable[None]]], None]
Array = np.ndarray[Any, Any]
X: dict[str, Array] = {"x": np.zeros(1, np.float32)}
BODY = b'{"model_name":"m","model_version":"3","id":"","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[2]}]}'
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nx-lastgood-role: live\r\n\r\n" % len(BODY) + BODY
BUSY = b'HTTP/1.1 503 Service Unavailable\r\n%scontent-length: 16\r\n\r\n{"error":"busy"}'
PATIENT = RetryPolicy(first_seconds=0.0, most_seconds=0.0)


@dataclass
class Scripted:
    """
    A server that does what its script says for each request, and the last thing for ever.

    A step is what is written; ``end`` closes afterwards, ``drip`` writes a byte each 50 ms, and without bytes nothing is answered.
    """

    steps: list[tuple[bytes, str]]
    port: int = 0
    times: list[float] = field(default_factory=list)  # when each request came
    connections: int = 0
    prefix: bytes = b""  # of what drips, and comes at once

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read requests with a body of known length and do the next step for each."""
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
                self.times.append(time.monotonic())
                data, then = self.steps[min(len(self.times), len(self.steps)) - 1]
                if then == "drip":
                    writer.write(self.prefix)
                    for byte in data:
                        writer.write(bytes([byte]))
                        await asyncio.sleep(0.05)
                    continue
                writer.write(data)
                if then == "end":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left
        finally:
            writer.close()


@asynccontextmanager
async def script(*steps: bytes | tuple[bytes, str]) -> AsyncIterator[Scripted]:
    """Listen on a free port of loopback."""
    scripted = Scripted([(step, "") if isinstance(step, bytes) else step for step in steps])
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    scripted.port = server.sockets[0].getsockname()[1]
    async with server:
        yield scripted


def make_settings(folder: Path, port: int) -> Settings:
    """Give the settings of a project whose gateway listens there."""
    return Settings(project=folder, home=folder / "home", port_rest=port)


async def ask(folder: Path, port: int, kind: str, policy: RetryPolicy = PATIENT, seconds: float = 10.0) -> Answer:
    """Ask once in JSON, with the client of that kind."""
    where = make_settings(folder, port)
    if kind == "async":
        async with AsyncPredictor(where, retries=policy) as predictor:
            return await predictor.predict("m", X, binary=False, seconds=seconds)

    def talk() -> Answer:
        with Predictor(where, retries=policy) as predictor:
            return predictor.predict("m", X, binary=False, seconds=seconds)

    return await asyncio.to_thread(talk)


both = pytest.mark.parametrize("kind", ["sync", "async"])


@both
def test_a_busy_gateway_is_asked_again_when_it_says_so(run: Run, tmp_path: Path, kind: str) -> None:
    """After its Retry-After and not before, over the same connection; the answer says how often it was tried."""

    async def scenario() -> None:
        async with script(BUSY % b"retry-after: 1\r\n", GOOD) as server:
            answer = await ask(tmp_path, server.port, kind)
            assert (2, 3, "live") == (answer.tries, answer.version, answer.role)
            assert 1.0 <= server.times[1] - server.times[0] < 2.0
            assert answer.seconds >= 1.0
            assert 1 == server.connections

    run(scenario)


@both
def test_attempts_end(run: Run, tmp_path: Path, kind: str) -> None:
    """With the gateway's sentence, and how often it was tried."""

    async def scenario() -> None:
        async with script(BUSY % b"") as server:
            with pytest.raises(UnavailableError, match=r"busy Tried 4 times in \d"):
                await ask(tmp_path, server.port, kind)
            assert 4 == len(server.times)

    run(scenario)


@both
def test_a_wait_past_the_deadline_is_not_waited_for(run: Run, tmp_path: Path, kind: str) -> None:
    """Nor is the rest of the time: the refusal is told at once."""

    async def scenario() -> None:
        async with script(BUSY % b"retry-after: 9\r\n") as server:
            began = time.monotonic()
            with pytest.raises(UnavailableError, match=r"^busy$"):
                await ask(tmp_path, server.port, kind, seconds=5.0)
            assert time.monotonic() - began < 2
            assert 1 == len(server.times)

    run(scenario)


@both
@pytest.mark.parametrize("broken", [(b"", "end"), (b"HTTP/1.1 20", "end")])
def test_a_connection_that_ends_before_an_answer_is_tried_again(run: Run, tmp_path: Path, kind: str, broken: tuple[bytes, str]) -> None:
    """Nothing came, or not even a whole head."""

    async def scenario() -> None:
        async with script(broken, broken, GOOD) as server:
            assert 3 == (await ask(tmp_path, server.port, kind)).tries
            assert (3, 3) == (len(server.times), server.connections)

    run(scenario)


@both
def test_an_answer_that_broke_off_is_not_asked_for_twice(run: Run, tmp_path: Path, kind: str) -> None:
    """It had begun: the gateway has answered and counted it."""

    async def scenario() -> None:
        async with script((GOOD[:-20], "end"), GOOD) as server:
            with pytest.raises(AnswerBrokenOffError, match="not asked for twice"):
                await ask(tmp_path, server.port, kind)
            assert 1 == len(server.times)

    run(scenario)


@both
@pytest.mark.parametrize(
    ("status", "error"), [(b"500 Oh", LastgoodError), (b"502 Oh", ModelFailedError), (b"400 Oh", UsageError), (b"504 Oh", UnavailableError)]
)
def test_other_answers_are_answers(run: Run, tmp_path: Path, kind: str, status: bytes, error: type[LastgoodError]) -> None:
    """A model that fails on a request fails on it again, and what was too slow is not made faster."""

    async def scenario() -> None:
        async with script((BUSY % b"retry-after: 0\r\n").replace(b"503 Service Unavailable", status), GOOD) as server:
            with pytest.raises(error, match="busy"):
                await ask(tmp_path, server.port, kind)
            assert 1 == len(server.times)

    run(scenario)


@both
def test_a_gateway_that_starts_meanwhile_is_found(run: Run, tmp_path: Path, kind: str) -> None:
    """A refused connection is tried again, with waits in between; nobody at all is a sentence."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def scenario() -> None:
        with pytest.raises(GatewayAwayError, match=r"Tried 4 times.*lastgood up"):
            await ask(tmp_path, port, kind)
        late = Scripted([(GOOD, "")])
        asking = asyncio.create_task(
            ask(tmp_path, port, kind, RetryPolicy(attempts=200, first_seconds=0.05, most_seconds=0.05, budget=200))
        )
        await asyncio.sleep(0.2)  # long enough for one attempt to be refused
        assert not asking.done()
        async with await asyncio.start_server(late.serve, "127.0.0.1", port, reuse_address=True):
            assert (await asking).tries > 1

    run(scenario)


@both
@pytest.mark.parametrize("slow", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"])
def test_the_deadline_holds(run: Run, tmp_path: Path, kind: str, slow: bytes) -> None:
    """Whether nothing comes or half an answer; it is not tried again."""

    async def scenario() -> None:
        async with script(slow) as server:
            began = time.monotonic()
            with pytest.raises(DeadlineError, match=r"within 0\.4 s"):
                await ask(tmp_path, server.port, kind, seconds=0.4)
            assert 0.35 < time.monotonic() - began < 2
            assert 1 == len(server.times)

    run(scenario)


@both
@pytest.mark.parametrize("drops", [b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100, b"\r\n" + b"a" * 100])
def test_an_answer_in_drops_does_not_outlast_the_deadline(run: Run, tmp_path: Path, kind: str, drops: bytes) -> None:
    """Of its head or of its body: each drop is in time, all of them would take five seconds."""

    async def scenario() -> None:
        async with script((drops, "drip"), GOOD) as server:
            server.prefix = b"" if drops.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n"
            began = time.monotonic()
            with pytest.raises(DeadlineError):
                await ask(tmp_path, server.port, kind, seconds=1.0)
            assert 0.9 < time.monotonic() - began < 1.8

    run(scenario)


@both
def test_refusals_and_attempts_share_one_deadline(run: Run, tmp_path: Path, kind: str) -> None:
    """A second attempt has what the first one left."""

    async def scenario() -> None:
        async with script(BUSY % b"retry-after: 1\r\n", b"") as server:
            began = time.monotonic()
            with pytest.raises(DeadlineError, match=r"Tried 2 times"):
                await ask(tmp_path, server.port, kind, seconds=1.6)
            assert 1.5 < time.monotonic() - began < 2.6

    run(scenario)


@both
def test_the_budget_keeps_a_client_from_multiplying_its_load(run: Run, tmp_path: Path, kind: str) -> None:
    """Forty requests to a gateway that refuses everything: forty first attempts, and only what the budget has besides."""
    policy = RetryPolicy(first_seconds=0.0, most_seconds=0.0, budget=5.0, earned=0.1)

    async def scenario() -> None:
        async with script(BUSY % b"") as server:
            where = make_settings(tmp_path, server.port)

            def talk() -> None:
                with Predictor(where, retries=policy) as predictor:
                    for _ in range(40):
                        with pytest.raises(UnavailableError):
                            predictor.predict("m", X, binary=False)

            if kind == "sync":
                await asyncio.to_thread(talk)
            else:
                async with AsyncPredictor(where, retries=policy) as predictor:
                    for _ in range(40):
                        with pytest.raises(UnavailableError):
                            await predictor.predict("m", X, binary=False)
            assert 40 + 5 <= len(server.times) <= 40 + 5 + 4

    run(scenario)


@both
def test_words_that_count_are_said_once(run: Run, tmp_path: Path, kind: str) -> None:
    """Those that give whole responses or tell labels leave trying again to their caller."""

    async def scenario() -> None:
        async with script(BUSY % b"retry-after: 0\r\n") as server:
            where = make_settings(tmp_path, server.port)
            if kind == "async":
                async with AsyncPredictor(where) as predictor:
                    assert 503 == (await predictor.send("m", [])).status_code
                    for word in (predictor.infer("m", []), predictor.feed_back("m", {"a": 1})):
                        with pytest.raises(UnavailableError, match=r"^busy$"):
                            await word
            else:

                def talk() -> None:
                    with Predictor(where) as predictor:
                        assert 503 == predictor.send("m", []).status_code
                        with pytest.raises(UnavailableError, match=r"^busy$"):
                            predictor.infer("m", [])
                        with pytest.raises(UnavailableError, match=r"^busy$"):
                            predictor.feed_back("m", {"a": 1})

                await asyncio.to_thread(talk)
            assert 3 == len(server.times)

    run(scenario)


def test_threads_may_share_a_client(run: Run, tmp_path: Path) -> None:
    """Nobody's answer is lost, and the connections are as many as the threads at most."""

    async def scenario() -> None:
        async with script(GOOD) as server:
            found: list[int] = []

            def talk(predictor: Predictor) -> None:
                found.extend(predictor.predict("m", X, binary=False).version for _ in range(25))

            def all_of_them() -> None:
                with Predictor(make_settings(tmp_path, server.port)) as predictor:
                    threads = [threading.Thread(target=talk, args=(predictor,)) for _ in range(4)]
                    for thread in threads:
                        thread.start()
                    for thread in threads:
                        thread.join()

            await asyncio.to_thread(all_of_them)
            assert [3] * 100 == found
            assert server.connections <= 4

    run(scenario)


def test_many_requests_at_once_wait_for_a_connection_within_their_time(run: Run, tmp_path: Path) -> None:
    """No more connections than allowed, every answer its own; whoever waits in vain is told in time."""

    async def scenario() -> None:
        async with script(GOOD) as server, AsyncPredictor(make_settings(tmp_path, server.port), connections=3) as predictor:
            answers = await asyncio.gather(*(predictor.predict("m", X, binary=False) for _ in range(200)))
            assert ([3] * 200, 200) == ([answer.version for answer in answers], len(server.times))
            assert 1 <= server.connections <= 3
        async with script(b"") as server, AsyncPredictor(make_settings(tmp_path, server.port), connections=1) as predictor:
            began = time.monotonic()
            ends = await asyncio.gather(*(predictor.predict("m", X, binary=False, seconds=0.4) for _ in range(5)), return_exceptions=True)
            assert {DeadlineError} == {type(end) for end in ends}
            assert time.monotonic() - began < 2

    run(scenario)
    with pytest.raises(UsageError, match="1 or more"):
        Predictor(make_settings(tmp_path, 1), connections=0)


def test_every_error_of_a_connection_is_one_of_httpx() -> None:
    """By name: a new one in httpcore must not go past the rules for trying again."""
    families = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError, httpcore.UnsupportedProtocol)
    kinds = [kind for kind in vars(httpcore).values() if isinstance(kind, type) and issubclass(kind, families)]
    assert len(kinds) > 10
    for kind in kinds:
        assert issubclass(getattr(httpx, kind.__name__), httpx.TransportError), kind


class Hand:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


REFUSED = httpx.ConnectError("refused")


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=1, max_size=12),
    st.floats(0.1, 20),
    st.integers(1, 6),
    st.floats(0, 1),
    st.floats(0, 3),
)
def test_no_attempt_begins_after_the_deadline_or_before_retry_after(
    problems: list[int | None], allowed: float, attempts: int, first: float, more: float
) -> None:
    """Whatever comes in whatever order; never more attempts than allowed, and waits no longer than the policy's."""
    clock = Hand()
    policy = RetryPolicy(attempts=attempts, first_seconds=first, most_seconds=first + more)
    tries = Tries(policy, RetryBudget(policy), clock() + allowed, clock=clock)
    for after in problems:
        problem = REFUSED if after is None else httpx.Response(503, headers={"retry-after": str(after)})
        before = tries.count
        wait = tries.wait_after(problem)
        if wait is None:
            assert before == tries.count
            break
        assert (after or 0) <= wait <= (after or 0) + min(first * 2 ** (before - 1), first + more)
        clock.now += wait
        assert tries.remaining() > 0
        assert before + 1 == tries.count <= attempts


def test_waits_differ_and_grow() -> None:
    """Clients that failed together do not come back together."""
    policy = RetryPolicy(attempts=3, first_seconds=1.0, most_seconds=8.0, budget=1e6)

    def draw() -> tuple[float, float]:
        tries = Tries(policy, RetryBudget(policy), 1e9, clock=Hand())
        first, second = tries.wait_after(REFUSED), tries.wait_after(REFUSED)
        assert first is not None
        assert second is not None
        return first, second

    drawn = [draw() for _ in range(200)]
    assert 200 == len({first for first, _ in drawn})
    assert 0.4 < np.mean([first for first, _ in drawn]) < 0.6  # five standard errors and more
    assert 0.8 < np.mean([second for _, second in drawn]) < 1.2


def test_retry_after_as_seconds_as_a_date_and_as_nonsense() -> None:
    """What cannot be read asks for nothing."""
    assert [3.0, 0.0] == [read_retry_after(value, 0) for value in ("3", "0")]
    assert 60.0 == read_retry_after(formatdate(1_000_060, usegmt=True), 1_000_000)
    assert 0.0 == read_retry_after(formatdate(999_000, usegmt=True), 1_000_000)
    assert [0.0] * 6 == [read_retry_after(value, 0) for value in ("", "-1", "1.5", "soon", "9" * 40, "Mon, 99 Foo 2020 00:00:00 GMT")]


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_seconds": 3.0}, {"first_seconds": -1.0}, {"budget": -1.0}, {"earned": -0.1}])
def test_a_policy_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """With its values."""
    with pytest.raises(UsageError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_refused(tmp_path: Path, seconds: float) -> None:
    """Before anything is sent."""
    with Predictor(make_settings(tmp_path, 1)) as predictor, pytest.raises(UsageError, match="above 0"):
        predictor.predict("m", X, seconds=seconds)
