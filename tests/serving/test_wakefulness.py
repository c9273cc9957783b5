"""The loop stays awake where requests follow each other quickly, for a moment, and not otherwise."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lastgood.serving.gateway import wakefulness
from lastgood.serving.gateway.wakefulness import Wakefulness, has_cores_to_spare

Run = Callable[[Callable[[], Awaitable[None]]], None]


async def measure_busy(awake: Wakefulness, *, at_once: int, pause: float = 0.02, times: int = 20) -> float:
    """Take note of some requests at once, again and again; give how much of the time this thread computed."""
    start, cpu = time.monotonic(), time.thread_time()
    for _ in range(times):
        for _ in range(at_once):
            awake.note(time.monotonic())
        await asyncio.sleep(pause)
    return (time.thread_time() - cpu) / (time.monotonic() - start)


def test_quick_requests_keep_the_loop_awake_and_slow_ones_do_not(run: Run) -> None:
    """As much as it can get of a core in one case, nearly nothing in the other; and nothing once the last one is past."""

    async def scenario() -> None:
        awake = Wakefulness(0.01)
        quick = await measure_busy(awake, at_once=50)
        slow = await measure_busy(Wakefulness(0.01), at_once=1)
        never = await measure_busy(Wakefulness(0.0), at_once=50)
        assert quick > 5 * max(slow, never)
        await asyncio.sleep(0.05)
        cpu = time.thread_time()
        await asyncio.sleep(0.3)
        assert time.thread_time() - cpu < 0.05

    run(scenario)


def test_others_are_heard_meanwhile(run: Run) -> None:
    """It looks, it does not wait: what is due comes between two looks."""

    async def scenario() -> None:
        awake = Wakefulness(5.0)
        for _ in range(200):
            awake.note(time.monotonic())
        start = time.monotonic()
        await asyncio.sleep(0.01)
        assert time.monotonic() - start < 2.0

    run(scenario)


@pytest.mark.interpreted
@pytest.mark.parametrize(("quota", "spare"), [("max 100000", True), ("400000 100000", True), ("150000 100000", False), ("?", True)])
def test_a_container_with_one_core_has_none_to_spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, spare: bool) -> None:  # noqa: FBT001
    """Staying awake there would take the time that replicas compute in."""
    file = tmp_path / "cpu.max"
    file.write_text(quota + "\n", "ascii")
    monkeypatch.setattr(wakefulness, "_QUOTA", file)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert spare is has_cores_to_spare()
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert not has_cores_to_spare()
