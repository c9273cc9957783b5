"""What is not taken on: by number, by bytes, by the time an answer would take; and what is not computed any more."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lastgood.replicas import ReplicaSettings
from lastgood.serving.gateway.brake import LONGEST_SECONDS, MOST_HELD, SHORTEST_SECONDS, Brake
from lastgood.serving.gateway.errors import BusyError
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.pool.admission import Admission
from lastgood.serving.gateway.pool.batcher import Batcher
from lastgood.serving.gateway.pool.pace import Pace
from lastgood.serving.gateway.pool.pending import Pending
from lastgood.serving.gateway.route import Lane, Tally

if TYPE_CHECKING:
    from tests.serving.conftest import Tools, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
MakeProgram = Callable[[str], tuple[str, ...]]
LANE = Lane(None, "live", Tally(), float("inf"))  # type: ignore[arg-type]
SLOW = "time.sleep(0.5)\nreturn super().run(feeds)"


def make(rows: int = 1, deadline: float = 1e9) -> Pending:
    return Pending(LANE, (np.zeros((rows, 4), np.float32),), (), rows, 0.0, deadline)


def make_admission(batcher: Batcher, limits: PoolLimits, row_seconds: float = 0.0) -> Admission:
    pace = Pace()
    pace.row_seconds = row_seconds
    return Admission("m@1", limits, batcher, pace, lambda: 0)


@pytest.mark.parametrize(
    ("limits", "row_seconds", "sentence", "retry"),
    [
        (PoolLimits(queue_requests=3), 0.0, "m@1 has 3 requests waiting, the limit; try again.", 1),
        (PoolLimits(queue_bytes=48), 0.0, "m@1 has 48 bytes of inputs waiting; the limit is 48; try again.", 1),
        (PoolLimits(), 5.0, "m@1 would answer in about 15 s, for 3 requests wait; 10 s are allowed; try again.", 8),
        (PoolLimits(queue_requests=3), 1000.0, "m@1 has 3 requests waiting, the limit; try again.", 60),
    ],
)
def test_what_is_refused_says_why_and_when_to_come_again(limits: PoolLimits, row_seconds: float, sentence: str, retry: int) -> None:
    """After half of the time that what waits will take, from 1 to 60 s; two requests less are taken."""
    batcher = Batcher(limits)
    admission = make_admission(batcher, limits, row_seconds)
    admission.check()
    for _ in range(3):
        batcher.put(make())
    with pytest.raises(BusyError) as refusal:
        admission.check()
    assert (sentence, retry) == (str(refusal.value), refusal.value.retry_seconds)
    assert batcher.take() is not None
    admission.check()  # everything was joined and is gone


def test_an_empty_queue_takes_whatever_the_pace_was() -> None:
    """Else a version that was slow once would never be asked again, and nobody would see that it is fast now."""
    make_admission(Batcher(PoolLimits()), PoolLimits(), row_seconds=1e6).check()


def test_a_large_request_that_waits_is_not_taken_for_as_many_small_ones() -> None:
    """Batches of one row in 2 ms say nothing of 20,000 rows in one; many full batches that wait are still too many."""
    limits = PoolLimits(batch_rows=64)
    batcher = Batcher(limits)
    admission = make_admission(batcher, limits, row_seconds=0.002)
    batcher.put(make(rows=20_000))
    admission.check()
    for _ in range(100):
        batcher.put(make(rows=20_000))
    with pytest.raises(BusyError, match=r"about 12\.9 s, for 101 requests wait"):
        admission.check()


def test_a_queue_counts_rows_and_bytes_whatever_becomes_of_them() -> None:
    """Taken, late, abandoned, put back, or all removed: at the end nothing is left over."""
    batcher = Batcher(PoolLimits(batch_rows=3))
    pendings = [make(rows=2), make(), make(deadline=5.0), make(), make(rows=3)]
    for pending in pendings:
        batcher.put(pending)
    pendings[1].finished = True
    assert (8, 128) == (batcher.rows, batcher.nbytes)
    batch = batcher.take(6.0)
    assert batch is not None
    assert [pendings[0], pendings[3]] == batch.pendings
    assert [pendings[2]] == batcher.take_late()
    assert [] == batcher.take_late()
    assert (3, 48) == (batcher.rows, batcher.nbytes)
    batcher.put_back(batch.pendings)
    assert (6, 96) == (batcher.rows, batcher.nbytes)
    assert 3 == len(batcher.remove_all())
    assert (0, 0) == (batcher.rows, batcher.nbytes)


def test_the_pace_is_that_of_answers_while_something_waits() -> None:
    """Two replicas that take 0.2 s for 10 rows each give a row every 0.01 s; pauses without work do not count, nor a single long one."""
    pace = Pace()
    pace.note(100.0, 10, 0.2, busy=True)
    assert pytest.approx(0.02) == pace.row_seconds
    for index in range(1, 100):
        pace.note(100.0 + index * 0.1, 10, 0.2, busy=True)
    assert pytest.approx(0.01, rel=0.01) == pace.row_seconds
    assert pytest.approx(10 * 0.01 + 0.2, rel=0.01) == pace.wait_seconds(10)
    pace.note(200.0, 10, 0.2, busy=False)
    assert pace.row_seconds < 0.02
    pace.note(300.0, 10, 0.2, busy=True)
    assert pace.row_seconds < 0.02


def test_the_brake_gives_refusals_a_moment_later_in_their_order(run: Run) -> None:
    """With one timer, later the more are held; beyond the limit the oldest go at once."""

    async def scenario() -> None:
        brake, given = Brake(), list[int]()
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        alone = loop.create_future()
        brake.hold(partial(alone.set_result, None))
        await alone
        assert SHORTEST_SECONDS <= time.monotonic() - began < LONGEST_SECONDS
        began = time.monotonic()
        done = loop.create_future()
        for number in range(MOST_HELD + 5):
            brake.hold(partial(given.append, number))
        brake.hold(partial(done.set_result, None))
        assert [*range(6)] == given
        await done
        assert LONGEST_SECONDS <= time.monotonic() - began < LONGEST_SECONDS + 2
        assert [*range(MOST_HELD + 5)] == given
        assert 0 == len(brake)

    run(scenario)


def test_what_cannot_be_in_time_is_refused_before_a_replica_sees_it(
    run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram
) -> None:
    """503 behind others; 504 where it was tried alone; a time-out of the request's own is no bad event."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.linear(), program=make_program(SLOW), limits=PoolLimits(batch_rows=1))
            async with tools.connect(gateway.plane.port) as holder, tools.connect(gateway.plane.port) as client:
                assert 200 == (await client.infer([1, 2, 3])).status
                for _ in range(4):
                    holder.send_post("/v2/models/m/infer", BODY)
                await tools.wait_until(lambda: lane.tally.requests == 3 and gateway.pools[0].waiting == 2)
                reply = await client.post("/v2/models/m/infer", BODY[:-1] + b', "parameters": {"timeout": 300000}}')
                assert (503, True) == (reply.status, "retry-after" in reply.headers)
                assert "would answer in about" in reply.json["error"]
                assert [200] * 4 == [(await holder.read()).status for _ in range(4)]
                reply = await client.post("/v2/models/m/infer", BODY[:-1] + b', "parameters": {"timeout": 100000}}')
                assert (504, "m@1: no answer within 0.1 s, the time-out of the request.") == (reply.status, reply.json["error"])
            assert (6, 0) == (lane.tally.requests, lane.tally.failed)

    run(scenario)


BODY = b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [5, 0, 0]}]}'


@pytest.mark.parametrize("timeout", ["0", "-1", "true", '"1"', "1.5"])
def test_a_time_out_that_is_none_is_named(run: Run, versions: "Versions", tools: "Tools", timeout: str) -> None:
    """Microseconds, whole."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear())
            async with tools.connect(gateway.plane.port) as client:
                reply = await client.post("/v2/models/m/infer", BODY[:-1] + b', "parameters": {"timeout": %s}}' % timeout.encode())
                assert (400, True) == (reply.status, "parameters.timeout" in reply.json["error"])

    run(scenario)


def test_the_limits_of_a_model_are_settings() -> None:
    """Each of them, and the rest stays as it is."""
    own = ReplicaSettings(batch_rows=7, queue_requests=5, deadline_seconds=0.5, queue_bytes=4096, batch_bytes=2048, hang_seconds=1.0)
    limits = PoolLimits.of(own)
    assert (7, 5, 0.5, 4096, 2048, 1.0) == (
        limits.batch_rows,
        limits.queue_requests,
        limits.deadline_seconds,
        limits.queue_bytes,
        limits.batch_bytes,
        limits.hang_seconds,
    )
    assert PoolLimits() == PoolLimits.of(ReplicaSettings())


@pytest.mark.parametrize(
    ("row_seconds", "deadline", "rows"),
    [
        (0.0, 110.0, 8),  # nothing is known
        (0.01, 110.0, 8),
        (1.0, 110.0, 2),  # a quarter of the deadline of 10 s
        (1.0, 101.5, 1),  # 0.8 of what the oldest has left
        (5.0, 110.0, 1),  # one there is always
        (5.0, 104.0, 0),
    ],
)
def test_a_batch_is_as_large_as_its_time_allows(row_seconds: float, deadline: float, rows: int) -> None:
    """What is left waits for the next one; what cannot be in time even alone is too late."""
    batcher = Batcher(PoolLimits(batch_rows=8))
    for _ in range(8):
        batcher.put(make(deadline=deadline))
    batch = batcher.take(100.0, row_seconds)
    assert rows == (0 if batch is None else batch.rows)
    assert ([] if rows else [1] * 8) == [own.rows for own in batcher.take_late()]
    assert (8 - rows if rows else 0) == batcher.rows == len(batcher)


def test_an_idle_replica_tries_what_it_was_too_slow_for() -> None:
    """Alone, and not what is past: else a version that was slow once would never show that it no longer is."""
    batcher = Batcher(PoolLimits())
    past, first, second = make(deadline=99.0), make(deadline=101.0), make(deadline=101.0)
    for pending in (past, first, second):
        batcher.put(pending)
    batch = batcher.take(100.0, 5.0, idle=True)
    assert batch is not None
    assert ([first], [past]) == (batch.pendings, batcher.take_late())
    assert batcher.take(100.0, 5.0) is None
    assert [second] == batcher.take_late()


def test_how_long_a_row_takes_is_learnt_from_the_last_batches() -> None:
    """Whatever their size; and a pause of the machine is not taken for it."""
    pace = Pace()
    assert 0.0 == pace.compute_seconds
    for _ in range(50):
        pace.note(0.0, 1, 0.1, busy=False)
    assert pytest.approx(0.1) == pace.compute_seconds
    pace.note(0.0, 1, 100.0, busy=False)
    assert pace.compute_seconds < 1.0
    for _ in range(60):
        pace.note(0.0, 100, 1.0, busy=False)
    assert pytest.approx(0.01, rel=0.1) == pace.compute_seconds


def test_time_in_which_the_gateway_was_stopped_counts_for_nobody(
    run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram
) -> None:
    """What was asked before is answered after, though its deadline has passed; the version is charged with nothing."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            limits = PoolLimits(deadline_seconds=1.0, batch_rows=1)
            lane = await gateway.serve(versions.linear(), program=make_program(SLOW), limits=limits)
            async with tools.connect(gateway.plane.port) as client:
                for _ in range(2):
                    client.send_post("/v2/models/m/infer", BODY)
                await tools.wait_until(lambda: lane.tally.requests == 2)
                time.sleep(2.5)  # noqa: ASYNC251 - as if the whole process had been stopped
                gateway.pools[0]._enforce_deadlines()  # before anything is read, as uvloop's timers are
                assert [200, 200] == [(await client.read()).status for _ in range(2)]
            assert (2, 0, []) == (lane.tally.requests, lane.tally.failed, gateway.deaths)

    run(scenario)
