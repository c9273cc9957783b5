"""However a replica ends: it is found out soon, replaced soon, and what it held is answered by another."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import psutil
import pytest

from lastgood.replicas import ReplicaSettings
from lastgood.serving.backends.process import ProcessBackend
from lastgood.serving.backends.replica import Backend, Launch, Owner, ReplicaFailedError, ReplicaStoppedError
from lastgood.serving.gateway.limits import PoolLimits
from lastgood.serving.gateway.pool.crew import Crew
from lastgood.serving.gateway.pool.pool import ReplicaPool

if TYPE_CHECKING:
    from tests.serving.conftest import Tools, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
MakeProgram = Callable[[str], tuple[str, ...]]
LIMIT = 256 << 20
# Keeps 64 MB more after each row that holds 5, and allocates until the end of it on 666.
GREEDY = """
    kept = self.__dict__.setdefault("kept", [])
    while (feeds["x"] == 666).any():
        kept.append(np.ones(1 << 20))
    if (feeds["x"] == 5).any():
        kept.append(np.ones(1 << 23))
    return super().run(feeds)
"""


@pytest.mark.backends
def test_a_stopped_replica_is_replaced_and_loses_nothing(run: Run, versions: "Versions", tools: "Tools") -> None:
    """SIGSTOP, while idle and then asked: long before the deadline another one answers; one death."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.linear())
            pool = gateway.pools[0]
            async with tools.connect(gateway.plane.port) as client:
                assert (await client.infer([0, 0, 0])).data == [1, 1, 1]
                before = pool.pids
                os.kill(before[0], signal.SIGSTOP)
                began = time.monotonic()
                assert (await client.infer([1, 2, 3])).data == [3, 5, 7]
                assert time.monotonic() - began < 5
            assert gateway.deaths[0].startswith("The replica of m@1 was stopped while it held a batch, and was ended.")
            assert 1 == len(gateway.deaths)
            assert before != pool.pids
            assert (lane.tally.requests, lane.tally.failed) == (2, 0)

    run(scenario)


@pytest.mark.backends
def test_a_long_batch_is_no_hang(run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram) -> None:
    """Three times the patience, waiting without the interpreter and then computing with it: answered, no death."""

    async def scenario() -> None:
        body = """
            time.sleep(0.6 if (feeds["x"] == 5).any() else 0)
            end = time.perf_counter() + (0.6 if (feeds["x"] == 6).any() else 0)
            while time.perf_counter() < end:
                pass
            return super().run(feeds)
        """
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear(), program=make_program(body), limits=PoolLimits(hang_seconds=0.2))
            async with tools.connect(gateway.plane.port) as client:
                assert (await client.infer([5, 6, 0])).data == [11, 13, 1]
            assert [] == gateway.deaths

    run(scenario)


@pytest.mark.backends
def test_a_replica_that_is_stuck_is_ended_before_the_deadline(
    run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram
) -> None:
    """In code that keeps the interpreter; twice, so that the request is refused, and the next one answered."""

    async def scenario() -> None:
        body = "import ctypes\nctypes.PyDLL(None).sleep(600 if (feeds['x'] == 666).any() else 0)\nreturn super().run(feeds)"
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear(), program=make_program(body), limits=PoolLimits(hang_seconds=0.3, respawn_seconds=0.01))
            async with tools.connect(gateway.plane.port) as client:
                reply = await client.infer([666, 0, 0])
                assert 503 == reply.status
                assert "a second replica died with this request" in reply.json["error"]
                assert (await client.infer([1, 2, 3])).data == [3, 5, 7]
            assert 2 == len(gateway.deaths)
            assert all("gave no sign of life for" in why for why in gateway.deaths)

    run(scenario)


def make_pool(versions: "Versions", program: tuple[str, ...] | None, deaths: list[str], **options: Any) -> ReplicaPool:
    version = options.pop("version", None) or versions.linear()
    limits = PoolLimits(respawn_seconds=0.01)
    content, folder = version.content, version.folder
    return ReplicaPool(
        "m", 1, content.digest, content, folder, program=program, limits=limits, on_death=lambda _, why: deaths.append(why), **options
    )


def test_a_replica_at_its_limit_ends_alone_and_what_it_held_is_answered(
    run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram
) -> None:
    """A leak costs deaths and no answer; a request that alone needs more than the limit is refused at the second one."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            pool = make_pool(versions, make_program(GREEDY), gateway.deaths, serving=ReplicaSettings(memory_bytes=LIMIT))
            gateway.pools.append(pool)
            await pool.start()
            gateway.reception.add_pool(pool)
            lane = tools.make_lane(pool)
            gateway.route(lane)
            async with tools.connect(gateway.plane.port) as client:
                for number in range(8):
                    assert (await client.infer([5, number, 0])).data == [11, 2 * number + 1, 1]
                leaked = len(gateway.deaths)
                assert leaked >= 2
                assert f"used up its {LIMIT} bytes of memory and ended; memory_bytes in [serving] sets the limit" in gateway.deaths[0]
                assert (lane.tally.requests, lane.tally.failed) == (8, 0)
                assert 503 == (await client.infer([666, 0, 0])).status
                assert leaked + 2 == len(gateway.deaths)
                assert (await client.infer([1, 2, 3])).data == [3, 5, 7]

    run(scenario)


@contextlib.contextmanager
def control_group(limit_bytes: int) -> Iterator[Path]:
    """Give a control group with that much memory, of either version; skip where none can be made."""
    name = f"lastgood-test-{os.getpid()}"
    for folder, file in ((Path("/sys/fs/cgroup/memory", name), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup", name), "memory.max")):
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if (folder / file).exists():
                (folder / file).write_text(str(limit_bytes))
                yield folder
                return
        finally:
            folder.rmdir()
    pytest.skip("no control group of memory can be made here: that takes root, or one that was delegated")


def test_the_kernels_choice_is_a_death_and_said(run: Run, versions: "Versions", tools: "Tools", make_program: MakeProgram) -> None:
    """A replica that the kernel ends for its memory: its request is answered by another, and the event says what to suspect."""

    async def scenario(group: Path) -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.linear(), program=make_program(GREEDY))
            move(gateway.pools[0].pids[0], group)
            async with tools.connect(gateway.plane.port) as client:
                assert (await client.infer([5, 0, 0])).data == [11, 1, 1]
            (why,) = gateway.deaths
            assert "was killed by SIGKILL; since it started the kernel ended 1 process" in why
            assert (lane.tally.requests, lane.tally.failed) == (1, 0)

    with control_group(32 << 20) as group:
        run(lambda: scenario(group))


def move(pid: int, group: Path) -> None:
    (group / "cgroup.procs").write_text(str(pid))


def test_a_limit_that_is_too_low_is_a_sentence(run: Run, versions: "Versions", make_program: MakeProgram) -> None:
    """Found while it gets ready, with golden answers and without."""

    async def scenario() -> None:
        for golden in (None, {"in/x": np.ones((1, 3), np.float32), "out/y": np.full((1, 3), 3, np.float32)}):
            program = make_program("np.ones(1 << 26)\nreturn super().run(feeds)")
            settings = ReplicaSettings(memory_bytes=LIMIT)
            pool = make_pool(versions, program, [], serving=settings, version=versions.linear(golden=golden))
            with pytest.raises(ReplicaFailedError, match=f"needs more memory than its limit of {LIMIT} bytes"):
                await pool.start()
            await pool.stop()

    run(scenario)


def score_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text("ascii"))


def test_the_kernel_takes_replicas_before_their_gateway(run: Run, versions: "Versions") -> None:
    """Their score is higher by 500."""

    async def scenario() -> None:
        pool = make_pool(versions, None, [])
        await pool.start()
        own, theirs = map(score_of, (os.getpid(), pool.pids[0]))
        assert min(1000, own + 500) == theirs
        await pool.stop()

    run(scenario)


def spares() -> list[int]:
    return [child.pid for child in psutil.Process().children() if "lastgood.serving.replica" in child.cmdline()]


def test_the_process_in_reserve_takes_the_place_of_one_that_died(run: Run, versions: "Versions", tools: "Tools") -> None:
    """It serves next, another one is kept; where it died too a new one starts; none is left when the backend closed."""

    async def scenario() -> None:
        backend, deaths = ProcessBackend(spare=True), list[str]()
        pool = make_pool(versions, None, deaths, backend=backend)
        await pool.start()
        (serving,) = pool.pids
        await tools.wait_until(lambda: len(spares()) == 2)
        (spare,) = set(spares()) - {serving}
        os.kill(serving, signal.SIGKILL)
        await tools.wait_until(lambda: pool.ready and pool.pids == [spare])
        await tools.wait_until(lambda: len(set(spares()) - {spare, serving}) == 1)
        (second,) = set(spares()) - {spare, serving}
        os.kill(second, signal.SIGKILL)
        await tools.wait_until(lambda: psutil.Process(second).status() == psutil.STATUS_ZOMBIE)
        os.kill(spare, signal.SIGKILL)
        await tools.wait_until(lambda: len(deaths) == 2 and pool.ready)
        assert not {spare, second} & set(pool.pids)
        await pool.stop()
        assert 1 == len(spares())
        await backend.close()
        assert [] == spares()

    run(scenario)


def test_a_stopped_process_in_reserve_is_not_used(run: Run, versions: "Versions", tools: "Tools") -> None:
    """The reserve is frozen and the replica killed: a fresh process serves, and the frozen one is gone."""

    async def scenario() -> None:
        backend, deaths = ProcessBackend(spare=True), list[str]()
        pool = make_pool(versions, None, deaths, backend=backend)
        await pool.start()
        (serving,) = pool.pids
        await tools.wait_until(lambda: len(spares()) == 2)
        (spare,) = set(spares()) - {serving}
        os.kill(spare, signal.SIGSTOP)
        os.kill(serving, signal.SIGKILL)
        await tools.wait_until(lambda: len(deaths) == 1 and pool.ready, seconds=8)
        assert spare not in pool.pids
        assert not psutil.pid_exists(spare)
        await pool.stop()
        await backend.close()

    run(scenario)


def test_a_replica_that_is_stopped_while_it_starts_is_replaced(
    run: Run, versions: "Versions", place: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Long before its time to start is up, with the reason; a second one in a row is an error that names it."""
    flag = place.folder / "once"
    path = place.programs / "frozen.py"
    path.write_text(f"""
import os, signal, sys
from pathlib import Path
from lastgood.serving.replica.model import Model
from lastgood.serving.replica.program import main
flags = Path({str(flag)!r})
if flags.exists() and flags.read_text():
    flags.write_text(flags.read_text()[1:])
    os.kill(os.getpid(), signal.SIGSTOP)
sys.exit(main(Model.open))
""")

    async def scenario() -> None:
        pool = make_pool(versions, place.command(path), [])
        flag.write_text("x")
        began = time.monotonic()
        await pool.start()
        assert time.monotonic() - began < 20  # and not the 60 s that a start may take
        assert pool.ready
        assert "The replica of m@1 was stopped while it started (SIGSTOP), and was ended." in caplog.text
        await pool.stop()
        flag.write_text("xx")
        other = make_pool(versions, place.command(path), [])
        with pytest.raises(ReplicaStoppedError, match="was stopped while it started"):
            await other.start()
        await other.stop()

    run(scenario)


def test_requests_that_wait_while_nothing_is_up_are_no_second_charge(run: Run, versions: "Versions", tools: "Tools", place: Any) -> None:
    """The death was charged; who comes after it and waits in vain is told to try again, and who waits for a slow answer is charged."""
    path, flag = place.programs / "late.py", place.folder / "late"
    path.write_text(f"""
import sys, time
from pathlib import Path
from lastgood.serving.replica.model import Model
from lastgood.serving.replica.program import main

class Slow(Model):
    def run(self, feeds):
        time.sleep(0.6 if (feeds["x"] == 5).any() else 0)
        return super().run(feeds)

while Path({str(flag)!r}).exists():
    time.sleep(0.02)
sys.exit(main(Slow.open))
""")

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.linear(), program=place.command(path), limits=PoolLimits(deadline_seconds=0.5))
            pool = gateway.pools[0]
            flag.touch()
            os.kill(pool.pids[0], signal.SIGKILL)
            await tools.wait_until(lambda: len(gateway.deaths) == 1)
            async with tools.connect(gateway.plane.port) as client, tools.connect(gateway.plane.port) as other:
                for reply in await asyncio.gather(client.infer([1, 2, 3]), other.infer([1, 2, 3])):
                    assert 503 == reply.status
                    assert "1" == reply.headers["retry-after"]
                    assert "no replica of the version was up" in reply.json["error"]
                assert (lane.tally.requests, lane.tally.batches, lane.tally.failed) == (0, 0, 0)
                flag.unlink()
                await tools.wait_until(lambda: pool.ready)
                assert (await client.infer([1, 2, 3])).data == [3, 5, 7]
                assert 504 == (await client.infer([5, 5, 5])).status
            assert (lane.tally.requests, lane.tally.failed) == (2, 1)

    run(scenario)


class Brief:
    """A fake backend whose replica is ready and gone before anybody hears of it."""

    slots = ()
    ready = False
    adopted = False
    report = provider = ""
    stopped = 0

    def make(self, _launch: Launch, _owner: Owner) -> "Brief":
        """Give itself as the replica."""
        return self

    async def start(self, _seconds: float) -> None:
        """Be ready, for no time."""

    async def stop(self, _seconds: float) -> None:
        """Count."""
        self.stopped += 1


def test_a_replica_that_ends_as_soon_as_it_is_ready_is_no_worker(run: Run, versions: "Versions") -> None:
    """Its end told nobody, so it is a start that failed: it must not stay in the crew for ever."""

    async def scenario() -> None:
        version, brief = versions.linear(), Brief()
        launch = Launch("m", 1, version.content.digest, b"", version.folder)
        limits, ready = PoolLimits(), asyncio.Event()
        crew = Crew(cast("Backend", brief), launch, cast("Owner", None), replicas=1, limits=limits, on_ready=ready.set)
        with pytest.raises(ReplicaFailedError, match="ended as soon as it was ready"):
            await crew.start()
        assert ([], 1, False) == (list(crew), brief.stopped, ready.is_set())

    run(scenario)
