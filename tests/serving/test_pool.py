"""What a pool promises: every request ends once, and what went wrong is charged once, to the right lane."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest

from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.route import Kind, Lane

if TYPE_CHECKING:
    from tests.serving.conftest import Reply, Tools, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
MakeProgram = Callable[[str], tuple[str, ...]]
pytestmark = pytest.mark.backends
QUICK = PoolLimits(respawn_seconds=0.01, respawn_limit_seconds=0.05)
# Dies of any row that holds 666; else computes y = 2x + 1.
POISON = """
    if (feeds["x"] == 666).any():
        os.kill(os.getpid(), signal.SIGKILL)
    return super().run(feeds)
"""


def test_a_killed_replica_loses_no_request_and_hangs_none(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Kill -9 under load, three times: every answer is right, and each death is one event."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.linear(), limits=QUICK)
            pool, answered = gateway.pools[0], 0

            async def load(number: int) -> None:
                nonlocal answered
                async with tools.connect(gateway.plane.port) as client:
                    for turn in range(60):
                        value = 1000 * number + turn
                        assert (await client.infer([value] * 3)).data == [2 * value + 1] * 3
                        answered += 1

            def answered_enough(count: int) -> bool:
                return answered >= count and pool.ready

            def has_died(times: int) -> bool:
                return len(gateway.deaths) == times

            async def kill() -> None:
                for death in range(3):
                    await tools.wait_until(partial(answered_enough, 200 * (death + 1)))
                    os.kill(pool.pids[0], signal.SIGKILL)
                    await tools.wait_until(partial(has_died, death + 1))

            await asyncio.gather(kill(), *(load(number) for number in range(16)))
            assert answered == 960
            assert gateway.deaths == ["The replica of m@1 was killed by SIGKILL."] * 3
            assert pool.meter.deaths == 3
            assert lane.tally.to_json() == {"batches": lane.tally.batches, "failed": 0, "invalid": 0, "requests": 960, "slow": 0}

    run(scenario)


def test_a_candidates_requests_go_to_the_baseline_when_it_dies(
    run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram
) -> None:
    """The baseline answers and says so; the candidate is charged one death and keeps its requests."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            main = tools.make_lane(await gateway.add(versions.linear(3, 0), 1), "baseline")
            dying = await gateway.add(versions.linear(), 2, program=make_program(POISON), limits=QUICK)
            candidate = tools.make_lane(dying, "candidate", fallback=main)
            gateway.route(main, candidate, share=1.0)
            async with tools.connect(gateway.plane.port) as client:
                reply = await client.infer([1, 1, 1])
                assert (reply.data, reply.headers["x-lastgood-version"], reply.headers["x-lastgood-role"]) == ([3, 3, 3], "2", "candidate")
                reply = await client.infer([666, 1, 1])
                assert reply.data == [1998, 3, 3]
                assert (
                    reply.json["model_version"],
                    reply.headers["x-lastgood-version"],
                    reply.headers["x-lastgood-role"],
                ) == ("1", "1", "baseline")
            assert len(gateway.deaths) == 1
            assert (candidate.tally.requests, candidate.tally.failed) == (2, 0)
            assert main.tally.requests == 0

    run(scenario)


def test_a_request_that_kills_replicas_takes_no_other_with_it(
    run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram
) -> None:
    """It is tried once more, alone, then refused with 503; its neighbours in the batch are answered."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.linear(), program=make_program(POISON), limits=QUICK)
            async with tools.connect(gateway.plane.port) as poison:
                bodies = [[number] * 3 for number in range(30)]
                bodies.insert(7, [666] * 3)
                replies = await _infer_at_once(tools, gateway.plane.port, bodies)
                for body, reply in zip(bodies, replies, strict=True):
                    if body[0] == 666:
                        assert reply.status == 503
                        assert "a second replica died with this request" in reply.json["error"]
                        assert reply.headers["retry-after"] == "1"
                    else:
                        assert [2 * body[0] + 1] * 3 == reply.data
                assert (await poison.infer([4, 4, 4])).data == [9, 9, 9]
            assert len(gateway.deaths) == 2
            assert (lane.tally.requests, lane.tally.failed) == (32, 1)

    run(scenario)


async def _infer_at_once(tools: "Tools", port: int, bodies: list[list[int]]) -> list["Reply"]:
    """Send each body on a connection of its own, all in one loop tick, and give the replies in order."""

    async def one(body: list[int], gate: asyncio.Event) -> "Reply":
        async with tools.connect(port) as client:
            await gate.wait()
            return await client.infer(body)

    gate = asyncio.Event()
    tasks = [asyncio.create_task(one(body, gate)) for body in bodies]
    await asyncio.sleep(0)
    gate.set()
    return list(await asyncio.gather(*tasks))


def test_a_hanging_replica_is_ended_and_its_requests_with_it(
    run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram
) -> None:
    """At the deadline 504, charged once; the replica is killed, replaced, and the next request is answered."""

    async def scenario() -> None:
        body = "if (feeds['x'] == 666).any():\n    time.sleep(600)\nreturn super().run(feeds)"
        async with tools.open_gateway() as gateway:
            limits = PoolLimits(deadline_seconds=0.4, respawn_seconds=0.01)
            lane = await gateway.serve(versions.linear(), program=make_program(body), limits=limits)
            async with tools.connect(gateway.plane.port) as client:
                reply = await client.infer([666, 0, 0])
                assert (reply.status, reply.json["error"]) == (504, "m@1: no answer within 0.4 s.")
                await tools.wait_until(lambda: bool(gateway.deaths) and gateway.pools[0].ready)
                assert (await client.infer([1, 2, 3])).data == [3, 5, 7]
            assert gateway.deaths == ["The replica of m@1 computed one batch for over 0.4 s and was ended."]
            assert (lane.tally.requests, lane.tally.failed) == (2, 1)

    run(scenario)


def test_requests_that_wait_in_vain_are_one_event(run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram) -> None:
    """Behind a replica that hangs, the queue ends at its deadline: each request counts, the incident once a sweep."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            limits = PoolLimits(deadline_seconds=0.5, batch_rows=1)
            program = make_program("if (feeds['x'] == 666).any():\n    time.sleep(600)\nreturn super().run(feeds)")
            lane = await gateway.serve(versions.linear(), program=program, limits=limits)
            async with tools.connect(gateway.plane.port) as client:
                body = b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [666, 0, 0]}]}'
                for _ in range(20):
                    client.send_post("/v2/models/m/infer", body)
                assert [(await client.read()).status for _ in range(20)] == [504] * 20
            assert lane.tally.requests == 20
            assert 1 <= lane.tally.failed <= 4  # two batches in flight, and the queue in one sweep or two
            assert lane.tally.failed <= lane.tally.batches

    run(scenario)


def test_one_bad_row_fails_alone(run: Run, versions: "Versions", tools: "Tools") -> None:
    """A batch that raises is run again in halves: the others are answered, the bad one gets the model's words, one event."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            told: list[tuple[str, Kind]] = []
            lane = await gateway.serve(versions.gather())
            lane.on_bad = lambda lane, kind: told.append((lane.role, kind))
            async with tools.connect(gateway.plane.port) as client:
                for index in (0, 1, 9, 2, 8, 0):
                    client.send_post("/v2/models/m/infer", _ask(index))
                replies = [await client.read() for _ in range(6)]
            assert [reply.status for reply in replies] == [200, 200, 502, 200, 502, 200]
            assert [reply.data[0] for reply in replies if reply.status == 200] == [10.0, 20.0, 30.0, 10.0]
            assert "the model failed on this request" in replies[2].json["error"]
            assert gateway.deaths == []
            assert (lane.tally.requests, lane.tally.failed) == (6, 1)
            assert told == [("live", "failed")]

    run(scenario)


def _ask(index: int) -> bytes:
    return b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [%d]}]}' % index


def test_an_answer_that_is_not_finite_is_invalid_for_its_own_row_only(run: Run, versions: "Versions", tools: "Tools") -> None:
    """502 for the row with NaN, 200 for its neighbours in the batch, one event."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.logarithm())
            async with tools.connect(gateway.plane.port) as client:
                for value in (1, -1, 1, -1, 1):
                    body = b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [%d]}]}' % value
                    client.send_post("/v2/models/m/infer", body)
                replies = [await client.read() for _ in range(5)]
            assert [reply.status for reply in replies] == [200, 502, 200, 502, 200]
            assert "not finite" in replies[1].json["error"]
            assert (lane.tally.requests, lane.tally.failed, lane.tally.invalid) == (5, 0, 1)

    run(scenario)


UNPROMISED = {
    "np.zeros((7, 3), np.float32)": "has shape [7, 3] for a batch of 1 rows",
    "np.zeros((1, 4), np.float32)": "has shape [1, 4], promised was [-1, 3]",
    "np.zeros((1, 3), np.float64)": "is float64, promised was FP32",
    "*[]": "gave 0 outputs, promised were 1",
}


def test_an_answer_that_was_not_promised_is_invalid(run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram) -> None:
    """Number, datatype, shape and rows of outputs are checked on every answer."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            answers = ", ".join(f"lambda: [{answer}]" for answer in UNPROMISED)
            lane = await gateway.serve(versions.linear(), program=make_program(f"return [{answers}][int(feeds['x'][0, 0])]()"))
            async with tools.connect(gateway.plane.port) as client:
                for number, message in enumerate(UNPROMISED.values()):
                    reply = await client.infer([number, 2, 3])
                    assert reply.status == 502
                    assert message in reply.json["error"]
                    assert lane.tally.invalid == number + 1

    run(scenario)


def test_slow_is_compute_time_per_row_above_the_limit(run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram) -> None:
    """A batch above the limit is one slow event; the same time spread over enough rows is none."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            pool = await gateway.add(versions.linear(), program=make_program("time.sleep(0.05)\nreturn super().run(feeds)"))
            lane = tools.make_lane(pool, "live", slow=0.02)
            gateway.route(lane)
            async with tools.connect(gateway.plane.port) as client:
                assert (await client.infer([1, 2, 3])).status == 200
                assert lane.tally.slow == 1
                assert (await client.infer([1] * 60, [20, 3])).status == 200
                assert lane.tally.slow == 1

    run(scenario)


def test_a_full_queue_refuses_before_decoding(run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram) -> None:
    """503 with Retry-After, also for a body that is none; refusals never count."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            program = make_program("time.sleep(0.3 if (feeds['x'] == 5).any() else 0)\nreturn super().run(feeds)")
            limits = PoolLimits(queue_requests=2, batch_rows=1)
            lane = await gateway.serve(versions.linear(), program=program, limits=limits)

            def holds(count: int) -> bool:
                return lane.tally.requests + gateway.pools[0].waiting == count

            async with tools.connect(gateway.plane.port) as holder, tools.connect(gateway.plane.port) as client:
                body = b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [5, 0, 0]}]}'
                for sent in range(4):  # two in flight, two waiting
                    holder.send_post("/v2/models/m/infer", body)
                    await tools.wait_until(partial(holds, sent + 1))
                reply = await client.post("/v2/models/m/infer", b"not json")
                assert (reply.status, reply.headers["retry-after"]) == (503, "1")
                assert "2 requests waiting" in reply.json["error"]
                assert [(await holder.read()).status for _ in range(4)] == [200] * 4
            assert lane.tally.requests == 4

    run(scenario)


def test_a_client_that_goes_counts_against_nobody(run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram) -> None:
    """
    A request whose client left is not run if it still waits, and is no bad event.

    What is being computed is answered: a client that sends no more may read on.
    """

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            program = make_program("time.sleep(0.2)\nreturn super().run(feeds)")
            lane = await gateway.serve(versions.linear(), program=program, limits=PoolLimits(batch_rows=1))
            pool = gateway.pools[0]
            async with tools.connect(gateway.plane.port) as client:
                for _ in range(3):
                    client.send_post(
                        "/v2/models/m/infer", b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [5, 0, 0]}]}'
                    )
                await tools.wait_until(lambda: lane.tally.requests == 2 and pool.waiting == 1)
            meter = pool.meter.role("live")
            await tools.wait_until(lambda: meter.requests.get(("production", "disconnected")) == 1)
            await pool.stop()
            assert 2 == meter.requests["production", "ok"]
            assert lane.tally.to_json() == {"batches": 2, "failed": 0, "invalid": 0, "requests": 2, "slow": 0}

    run(scenario)


def test_a_request_larger_than_a_slot_is_answered(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Slots grow in both directions: 3 MB in, 3 MB out, and small ones again after."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear())
            values = [float(number % 1000) for number in range(750_000)]
            async with tools.connect(gateway.plane.port) as client:
                reply = await client.infer(values, [250_000, 3])
                assert [2 * value + 1 for value in values] == reply.data
                assert (await client.infer([1, 2, 3])).data == [3, 5, 7]

    run(scenario)


def test_stopping_answers_what_was_submitted(run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram) -> None:
    """A pool that is stopped finishes its queue first, and its process is gone after."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            program = make_program("time.sleep(0.05)\nreturn super().run(feeds)")
            await gateway.serve(versions.linear(), program=program, limits=PoolLimits(batch_rows=1))
            pool = gateway.pools[0]
            pid = pool.pids[0]
            async with tools.connect(gateway.plane.port) as client:
                for number in range(6):
                    body = b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [%d, 0, 0]}]}' % number
                    client.send_post("/v2/models/m/infer", body)
                await tools.wait_until(lambda: pool.waiting == 4)
                await pool.stop()
                assert [(await client.read()).data[0] for _ in range(6)] == [1, 3, 5, 7, 9, 11]
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    run(scenario)


def test_two_replicas_share_the_load_and_one_death_leaves_the_other(run: Run, versions: "Versions", tools: "Tools") -> None:
    """With two processes the pool stays ready when one dies."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            pool = await gateway.add(versions.linear(), replicas=2, limits=QUICK)
            gateway.route(tools.make_lane(pool))
            assert len(pool.pids) == 2
            os.kill(pool.pids[0], signal.SIGKILL)
            await tools.wait_until(lambda: len(gateway.deaths) == 1)
            assert pool.ready
            async with tools.connect(gateway.plane.port) as client:
                assert (await client.infer([1, 2, 3])).data == [3, 5, 7]
            await tools.wait_until(lambda: len(pool.pids) == 2)

    run(scenario)


def test_lanes_that_are_equal_are_still_two(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Requests dealt before a change of step are charged to their own step, even in one batch."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            pool = await gateway.add(versions.logarithm())
            lanes: list[Lane] = [tools.make_lane(pool), tools.make_lane(pool)]
            async with tools.connect(gateway.plane.port) as client:
                for lane in lanes:
                    gateway.route(lane)
                    body = b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [-1]}]}'
                    assert (await client.post("/v2/models/m/infer", body)).status == 502
            assert [(lane.tally.requests, lane.tally.invalid) for lane in lanes] == [(1, 1), (1, 1)]

    run(scenario)
