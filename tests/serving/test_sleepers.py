"""Versions that sleep while nobody asks for them, with a real registry, real replicas and real ports."""

import asyncio
import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lastgood.errors import ConflictError
from lastgood.monitoring.drift.profile import make_profile
from lastgood.registry.content import Content, FileEntry, Record
from lastgood.registry.registry import Registry
from lastgood.replicas import ReplicaSettings, ServingSettings
from lastgood.serving.backends.process import ReplicaProcess
from lastgood.serving.gateway.pool.pool import ReplicaPool
from lastgood.serving.gateway.rollouts.alerts import Alert
from lastgood.serving.gateway.rollouts.conductor import Conductor
from lastgood.serving.gateway.rollouts.intents import Intent
from lastgood.serving.gateway.rollouts.state import ModelState
from lastgood.serving.rollout.policy import RolloutPolicy
from lastgood.serving.rollout.table import Pin, Rollout, State
from lastgood.settings import Settings

if TYPE_CHECKING:
    from tests.serving.conftest import Version, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]
NEVER = RolloutPolicy(steps=(0.5,), step_requests=10**9)
TWO = 80 << 20  # bytes: two versions of 28 to 34 MB fit, three do not


class World:
    """Models that are stable, as if released long ago: version k of the n-th model multiplies by 10 n + k."""

    def __init__(self, settings: Settings, versions: "Versions") -> None:
        self.settings = settings
        self.versions = versions
        self.factors: dict[str, float] = {}  # of the live version

    def release(self, name: str, numbers: int = 1, *, drift: bool = False) -> list[Pin]:
        """Register that many versions; the last one is live, the one before it kept as what it would be taken back to."""
        pins = []
        with Registry.open(self.settings, writer="cli") as registry:
            for number in range(1, numbers + 1):
                factor = 10.0 * (len(self.factors) + 1) + number
                row = np.ones((1, 3), np.float32)
                version = self.versions.linear(factor, 0.0, {"in/x": row, "out/y": row * factor})
                content = add_reference(version, factor) if drift else version.content
                files = {entry.path: version.folder / entry.path for entry in content.files}
                found = registry.register(name, content, files, Record("ada", "a test"), actor="ada")
                pins.append(Pin(found.number, found.digest))
            live, before = pins[-1], pins[-2] if numbers > 1 else None
            rollout = Rollout("r", name, live, None, before, "direct", NEVER, 1, State.STABLE)
            state = ModelState(
                name, live, live, tuple(reversed(pins)), rollout, {live.digest: datetime(2026, 1, 1, tzinfo=UTC).isoformat()}
            )
            with registry.transaction() as transaction:
                transaction.write_route(name, state.to_json(), expected=0)
        self.factors[name] = factor
        return pins

    def limit(self, limit: int | None = TWO, kept: Sequence[str] = ()) -> Settings:
        """Give settings with a limit in bytes, and models that are kept."""
        serving = ServingSettings(loaded_bytes=limit, models={name: ReplicaSettings(keep_loaded=True) for name in kept})
        return self.settings.model_copy(update={"serving": serving})

    def note_asked(self, *names: str) -> None:
        """Let models have been asked in an earlier life of the gateway, the last one named most lately."""
        folder = self.settings.home / "gateway"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "asked.json").write_text(json.dumps({name: 1000.0 + number for number, name in enumerate(names)}), "utf-8")

    def find_stored(self, digest: str) -> Path:
        """Give the stored file of a version's model."""
        with Registry.open(self.settings, writer="test") as registry:
            (entry,) = [entry for entry in registry.content(digest).files if entry.path == "model.onnx"]
        return next((self.settings.home / "registry" / "files").rglob(f"{entry.sha256[2:]}*"))


def add_reference(version: "Version", factor: float) -> Content:
    """Give the version's content with a drift reference of 200 rows."""
    rows = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    data = make_profile({"x": rows}, {"y": rows * factor}).to_bytes()
    (version.folder / "drift.bin").write_bytes(data)
    entry = FileEntry("drift.bin", len(data), hashlib.sha256(data).hexdigest())
    files = tuple(sorted((*version.content.files, entry), key=lambda own: own.path))
    return replace(version.content, files=files, drift="drift.bin")


@pytest.fixture
def world(settings: Settings, versions: "Versions") -> World:
    return World(settings, versions)


def find_pool(conductor: Conductor, name: str, number: int = 1) -> ReplicaPool:
    return conductor.reception.pools[name, number]


def list_up(conductor: Conductor) -> set[str]:
    return {name for (name, _), pool in conductor.reception.pools.items() if not pool.bed.asleep}


def wakes(conductor: Conductor, result: str) -> dict[str, int]:
    return {name: count for (name, _, own), count in conductor.sleepers.wakes.items() if own == result}


async def ask(client: Any, world: World, name: str) -> None:
    """Ask once; the answer is the live version's."""
    reply = await client.infer([1.0, 2.0, 3.0], path=name)
    assert [world.factors[name] * x for x in (1, 2, 3)] == reply.data


def test_requests_that_come_together_wake_a_version_once(world: World, tools: Any, run: Run) -> None:
    """Before, it is ready and named as sleeping, and its description wakes nobody; what slept for it is named too."""
    for name in "abc":
        world.release(name)
    settings = world.limit()

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway, tools.connect(settings.port_rest) as client:
            conductor = gateway.conductor
            assert {"a", "b"} == list_up(conductor)
            assert 200 == (await client.get("/v2/health/ready")).status
            assert {"name": "c", "ready": True} == (await client.get("/v2/models/c/ready")).json
            assert ["1"] == (await client.get("/v2/models/c")).json["versions"]
            assert ({"a", "b"}, {}) == (list_up(conductor), wakes(conductor, "ready"))

            async def ask_alone() -> None:
                async with tools.connect(settings.port_rest) as own:
                    await ask(own, world, "c")

            await asyncio.gather(*(ask_alone() for _ in range(20)))
            assert {"c": 1} == wakes(conductor, "ready")
            assert 1 == len(find_pool(conductor, "c").pids)
            async with tools.connect(settings.port_control) as control:
                routes = {own["model"]: own["lanes"][0] for own in (await control.get("/routes")).json["routes"]}
                metrics = (await control.get("/metrics")).body.decode()
            assert {"a": (True, True), "b": (True, False), "c": (True, False)} == {
                name: (lane["ready"], lane["sleeping"]) for name, lane in routes.items()
            }
            for line in (
                'lastgood_sleeping{model="a",version="1"} 1.0',
                'lastgood_resident_bytes{model="a",version="1"} 0.0',
                'lastgood_sleeping{model="c",version="1"} 0.0',
                'lastgood_wakes_total{model="c",result="ready",version="1"} 1.0',
                'lastgood_evictions_total{model="a",version="1"} 1.0',
                "lastgood_wake_seconds_count 1.0",
            ):
                assert line in metrics
            assert 'lastgood_replica_ready{model="a"' not in metrics  # an alert on it would call what sleeps broken
            assert 2 == sum(line.startswith("lastgood_resident_bytes{") and not line.endswith(" 0.0") for line in metrics.splitlines())

    run(scenario)


def test_who_cannot_wait_until_a_version_is_awake_is_told_to_come_again(world: World, tools: Any, run: Run) -> None:
    """503 and no fault of the version; it is woken all the same, for whoever comes next."""
    for name in "abc":
        world.release(name)
    settings = world.limit()
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}
    hurried = json.dumps({"inputs": [tensor], "parameters": {"timeout": 1000}}).encode()  # microseconds

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway, tools.connect(settings.port_rest) as client:
            reply = await client.post("/v2/models/c/infer", hurried)
            assert (503, "1") == (reply.status, reply.headers["retry-after"])
            assert "could not be woken in time" in reply.json["error"]
            outcomes = find_pool(gateway.conductor, "c").meter.role("live").requests
            assert {("production", "refused"): 1} == outcomes
            await ask(client, world, "c")
            assert {"c": 1} == wakes(gateway.conductor, "ready")

    run(scenario)


def test_what_was_asked_longest_ago_sleeps_first(world: World, tools: Any, run: Run) -> None:
    """Also across a restart; a model that is to be kept is never among them."""
    for name in "abcd":
        world.release(name)
    world.note_asked("a", "d", "c")
    settings = world.limit()

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway, tools.connect(settings.port_rest) as client:
            assert {"c", "d"} == list_up(gateway.conductor)
            for name, expected in (("a", "ac"), ("c", "ac"), ("b", "bc"), ("c", "bc"), ("d", "cd")):
                await ask(client, world, name)
                assert set(expected) == list_up(gateway.conductor), name
        async with tools.run_gateway(world.limit(kept="a")) as gateway, tools.connect(settings.port_rest) as client:
            assert {"a", "d"} == list_up(gateway.conductor)
            for name in "bcd":
                await ask(client, world, name)
                assert {"a", name} == list_up(gateway.conductor)

    run(scenario)


def test_a_version_that_slept_from_the_start_is_observed_when_it_wakes(world: World, tools: Any, run: Run) -> None:
    """Its drift reference is among files that are copied out only then, and it is compared with that; labels may come before."""
    world.release("a")
    world.release("b")
    world.release("c", drift=True)
    settings = world.limit()

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway, tools.connect(settings.port_rest) as client:
            assert {"a", "b"} == list_up(gateway.conductor)
            labels = json.dumps({"labels": [{"id": "1", "label": 1}]}).encode()
            early = await client.post("/v2/models/c/feedback", labels)
            assert 202 == early.status, early.body
            drifts = gateway.conductor.observation.drifts
            async with asyncio.timeout(30):
                while "c" not in drifts.models:
                    await ask(client, world, "c")
                    await asyncio.sleep(0.02)

    run(scenario)


def test_without_a_limit_everything_is_up(world: World, tools: Any, run: Run) -> None:
    """And stays so."""
    for name in "abc":
        world.release(name)

    async def scenario() -> None:
        async with tools.run_gateway(world.limit(None)) as gateway, tools.connect(world.settings.port_rest) as client:
            for name in "abc":
                await ask(client, world, name)
            assert set("abc") == list_up(gateway.conductor)
            assert not gateway.conductor.sleepers.evictions

    run(scenario)


def test_a_version_that_cannot_be_woken_is_refused_with_the_reason_and_not_tried_again_at_once(world: World, tools: Any, run: Run) -> None:
    """A flipped bit in the registry: 503 and a pause, a person at the second time, others are served; repaired, it wakes."""
    for name in "abc":
        pins = world.release(name)
    stored = world.find_stored(pins[0].digest)
    good = stored.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    stored.chmod(0o644)
    settings = world.limit()

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway, tools.connect(settings.port_rest) as client:
            conductor = gateway.conductor
            stored.write_bytes(bytes(bad))
            replies = [await client.infer([1.0, 2.0, 3.0], path="c") for _ in range(10)]
            assert {503} == {reply.status for reply in replies}
            assert all("model.onnx" in reply.json["error"] and "c@1" in reply.json["error"] for reply in replies), replies[-1].body
            assert {"1"} == {reply.headers["retry-after"] for reply in replies}
            assert {"c": 1} == wakes(conductor, "failed")
            assert 503 == (await client.get("/v2/health/ready")).status
            assert "model.onnx" in str(conductor.book.held["c"].reason)
            assert 0 == conductor.book.tallies["pages", "c"]
            await ask(client, world, "b")

            async def ask_until(wanted: int) -> None:
                async with asyncio.timeout(20):
                    while (await client.infer([1.0, 2.0, 3.0], path="c")).status != wanted or wakes(conductor, "failed")["c"] < 2:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)  # as a client that tries again

            await ask_until(503)
            assert 1 == conductor.book.tallies["pages", "c"]
            stored.write_bytes(good)
            await ask_until(200)
            assert {"c": 2} == wakes(conductor, "failed")
            assert 200 == (await client.get("/v2/health/ready")).status
            await ask(client, world, "c")

    run(scenario)


def test_nothing_is_lost_where_going_to_sleep_and_a_request_cross(world: World, tools: Any, run: Run) -> None:
    """In one moment, in both orders; and with three models that take each other's room all the time."""
    for name in "abc":
        world.release(name)
    settings = world.limit()

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway, tools.connect(settings.port_rest) as client:
            conductor = gateway.conductor
            await ask(client, world, "b")
            pool, room = find_pool(conductor, "a"), conductor.sleepers.room
            assert "a" == room.find_victim("")
            waiting = asyncio.create_task(ask(client, world, "a"))
            await tools.wait_until(lambda: pool.busy or waiting.done())
            if not waiting.done():
                assert "a" != room.find_victim("")  # it is busy, however long ago it was asked before
            await waiting
            (before,) = pool.pids
            conductor.sleepers.lay_down("a")
            assert pool.bed.asleep
            await ask(client, world, "a")  # comes while the replica ends
            assert [before] != pool.pids
            assert 1 == len(pool.pids)

            async def ask_on(name: str) -> None:
                async with tools.connect(settings.port_rest) as own:
                    for _ in range(5):
                        await ask(own, world, name)

            await asyncio.gather(*(ask_on(name) for name in "abcabc"))
            assert room.taken <= TWO

    run(scenario)


def test_a_sleeping_version_is_withdrawn_as_any_is(world: World, tools: Any, run: Run) -> None:
    """Recorded, and journalled on the way; it never wakes again, and the next request wakes what it was taken back to."""
    for name in "ab":
        world.release(name)
    first, second = world.release("c", 2)
    world.note_asked("c", "b", "a")
    settings = world.limit()

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway, tools.connect(settings.port_rest) as client:
            conductor = gateway.conductor
            await tools.wait_until(lambda: ("c", 1) in conductor.reception.pools)
            assert {"a", "b"} == list_up(conductor)
            alert = Alert("LastgoodFailing", True, "c", 2, "rollback", datetime.now(UTC), "fails", "f")
            assert "rollback" == (await conductor.hear(alert)).result
            assert first == conductor.book.held["c"].state.live
            assert "c" in (settings.home / "gateway" / "withdrawals.jsonl").read_text("utf-8")
            assert {"a", "b"} == list_up(conductor)
            assert 200 == (await client.get("/v2/health/ready")).status
            await conductor.withdrawals.settle("c")
            world.factors["c"] -= 1
            await ask(client, world, "c")
            await tools.wait_until(lambda: ("c", 2) not in conductor.reception.pools)
            assert {("c", 1, "ready"): 1} == {own: count for own, count in conductor.sleepers.wakes.items() if count}
        with Registry.open(settings, writer="test") as registry:
            assert {second.digest} == set(registry.tombstones())
            assert registry.verify().ok

    run(scenario)


def test_a_live_version_that_wakes_has_beside_it_what_it_would_be_taken_back_to(world: World, tools: Any, run: Run) -> None:
    """So that taking back needs no start; both sleep together too."""
    world.release("a")
    world.release("b")
    world.release("c", 2)
    settings = world.limit()

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway, tools.connect(settings.port_rest) as client:
            conductor = gateway.conductor
            await tools.wait_until(lambda: ("c", 1) in conductor.reception.pools)
            await ask(client, world, "c")
            await tools.wait_until(lambda: find_pool(conductor, "c", 1).ready)
            assert {"c"} == list_up(conductor)
            await ask(client, world, "a")
            assert {"a"} == list_up(conductor)

    run(scenario)


def test_a_rollout_wakes_its_model_and_keeps_it_up(world: World, tools: Any, run: Run) -> None:
    """Both versions of it, over the limit if need be; another model that does not fit beside it is told so."""
    for name in "ab":
        world.release(name)
    first, _ = world.release("c", 2)
    world.note_asked("c", "b", "a")
    settings = world.limit()

    async def scenario() -> None:
        async with tools.run_gateway(settings) as gateway, tools.connect(settings.port_rest) as client:
            conductor = gateway.conductor
            await tools.wait_until(lambda: ("c", 1) in conductor.reception.pools)
            assert {"a", "b"} == list_up(conductor)
            await conductor.submit(Intent("c@1", "canary", NEVER, "ada", "a test"))
            held = conductor.book.held["c"]
            await tools.wait_until(lambda: held.state.running is not None and held.state.running.state is State.CANARY)
            assert {"c"} == list_up(conductor)
            with pytest.raises(ConflictError):
                await conductor.submit(Intent("c@2", "canary", NEVER, "ada", "a test"))
            reply = await client.infer([1.0, 2.0, 3.0], path="a")
            assert 503 == reply.status
            assert "never sleeps" in reply.json["error"]
            assert "1" == reply.headers["retry-after"]
            assert {"c"} == list_up(conductor)
            assert 200 == (await client.get("/v2/health/ready")).status  # want of room is no fault of the version
            assert (503, 200) == tuple([(await client.get(f"/v2/models/{name}/ready")).status for name in "ac"])
            await conductor.promote("c", actor="ada", why="a test")
            assert first == held.state.live
            async with asyncio.timeout(20):
                while (await client.infer([1.0, 2.0, 3.0], path="a")).status == 503:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert {"a"} == list_up(conductor)

    run(scenario)


def test_as_many_versions_start_at_a_time_as_there_are_cores_the_most_wanted_first(
    world: World, tools: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile the port says that it is not ready."""
    for name in "abcdef":
        world.release(name)
    world.note_asked("e", "b")
    order: list[str] = []
    running, most, statuses = set[str](), [0], set[int]()
    start = ReplicaProcess.start

    async def count(own: ReplicaProcess, timeout_seconds: float) -> None:
        order.append(own.name)
        running.add(own.name)
        most[0] = max(most[0], len(running))
        async with tools.connect(world.settings.port_rest) as client:
            statuses.update([(await client.get("/v2/health/ready")).status, (await client.infer([1.0, 2.0, 3.0], path="f")).status])
        await start(own, timeout_seconds)
        running.discard(own.name)

    monkeypatch.setattr(ReplicaProcess, "start", count)

    async def scenario() -> None:
        async with tools.run_gateway(world.settings), tools.connect(world.settings.port_rest) as client:
            assert 200 == (await client.get("/v2/health/ready")).status

    run(scenario)
    assert ["b@1", "e@1", "a@1", "c@1", "d@1", "f@1"] == order
    assert {503} == statuses
    assert most[0] <= len(os.sched_getaffinity(0))
