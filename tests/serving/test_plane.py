"""The whole way over real sockets: nobody gets somebody else's answer, not even while versions change."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from lastgood.serving.gateway.errors import OpenAddressError
from lastgood.serving.gateway.meters.meters import TrafficLabels
from lastgood.serving.gateway.plane import DataPlane
from lastgood.serving.gateway.pool.batch import Outputs
from lastgood.serving.gateway.reception import Reception

if TYPE_CHECKING:
    from tests.serving.conftest import Tools, Versions

Run = Callable[[Callable[[], Awaitable[None]]], None]


async def fan_out(tools: "Tools", port: int, connections: int = 24, each: int = 20) -> int:
    """Ask for distinct values at once, of one to four rows each; give how many answers were somebody else's."""

    async def ask(number: int) -> int:
        wrong = 0
        async with tools.connect(port) as client:
            for turn in range(each):
                rows = 1 + (number + turn) % 4
                values = [float(number * 10_000 + turn * 100 + place) for place in range(3 * rows)]
                reply = await client.infer(values, [rows, 3])
                wrong += [2 * value + 1 for value in values] != reply.data or reply.json["outputs"][0]["shape"] != [rows, 3]
        return wrong

    return sum(await asyncio.gather(*(ask(number) for number in range(connections))))


@pytest.mark.backends
def test_every_answer_belongs_to_its_request(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Distinct inputs, joined into batches: each request gets its own rows back."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.linear())
            assert await fan_out(tools, gateway.plane.port) == 0
            assert lane.tally.requests == 480
            assert lane.tally.batches < 480  # else nothing was joined and nothing was tested

    run(scenario)


@pytest.mark.interpreted
def test_a_planted_mix_up_is_caught(run: Run, versions: "Versions", tools: "Tools", monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: a split that is off by one row gives wrong answers, and they are seen."""
    right = Outputs.values

    def shifted(self: Outputs, output: int, start: int, stop: int) -> list[object]:
        shift = 1 if stop < self.rows else -start
        return right(self, output, start + shift, stop + shift)

    monkeypatch.setattr(Outputs, "values", shifted)

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear())
            assert await fan_out(tools, gateway.plane.port) > 0

    run(scenario)


@pytest.mark.backends
def test_swaps_under_load_lose_nothing_and_name_who_answered(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Two versions take turns: every answer is the one of the version it names, and none fails."""
    swap_under_load(run, versions, tools, swaps=4)


@pytest.mark.slow
def test_many_swaps_under_load_lose_nothing_and_name_who_answered(run: Run, versions: "Versions", tools: "Tools") -> None:
    """The same, twenty times."""
    swap_under_load(run, versions, tools, swaps=20)


def swap_under_load(run: Run, versions: "Versions", tools: "Tools", *, swaps: int) -> None:
    """Swap that often while six clients ask."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            built = {1: versions.linear(2, 1), 2: versions.linear(3, 5)}
            factors = {"1": (2, 1), "2": (3, 5)}
            seen = {"1": 0, "2": 0}
            current = await gateway.add(built[1], 1)
            gateway.route(tools.make_lane(current))
            done = asyncio.Event()

            async def load(number: int) -> None:
                turn = 0
                async with tools.connect(gateway.plane.port) as client:
                    while not done.is_set():
                        turn += 1
                        value = number * 1000 + turn % 1000
                        reply = await client.infer([value] * 3)
                        version = reply.headers["x-lastgood-version"]
                        assert version == reply.json["model_version"]
                        scale, offset = factors[version]
                        assert [float(scale * value + offset)] * 3 == reply.data
                        seen[version] += 1

            def answered_since(version: str, before: int) -> bool:
                return seen[version] > before

            async def swap() -> None:
                nonlocal current
                try:
                    for turn in range(swaps):
                        number = 2 - turn % 2
                        old, current = current, await gateway.add(built[number], number)
                        gateway.route(tools.make_lane(current))
                        await tools.wait_until(partial(answered_since, str(number), seen[str(number)]))
                        gateway.reception.remove_pool(old)
                        await old.stop()
                finally:
                    done.set()

            await asyncio.gather(swap(), *(load(number) for number in range(6)))
            assert gateway.reception.routes["m"].generation == swaps + 1
            assert min(seen.values()) > swaps
            assert gateway.deaths == []

    run(scenario)


def test_a_plane_that_drains_is_not_ready(run: Run, versions: "Versions", tools: "Tools") -> None:
    """A balancer that asks over its kept connection is told so, and that the connection ends."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear())
            async with tools.connect(gateway.plane.port) as asking:
                assert 200 == (await asking.get("/v2/health/ready")).status
                draining = asyncio.create_task(gateway.plane.drain())
                await tools.wait_until(lambda: gateway.plane._server.draining)
                last = await asking.get("/v2/health/ready")
                assert (503, "close") == (last.status, last.headers["connection"])
                await draining

    run(scenario)


ELEMENTS: dict[str, list[Any]] = {
    "BOOL": [True, False, True],
    "UINT8": [0, 255, 7],
    "UINT16": [0, 65535, 7],
    "UINT32": [0, 2**32 - 1, 7],
    "UINT64": [0, 2**64 - 1, 7],
    "INT8": [-128, 127, 0],
    "INT16": [-(2**15), 2**15 - 1, 0],
    "INT32": [-(2**31), 2**31 - 1, 0],
    "INT64": [-(2**63), 2**63 - 1, 0],
    "FP16": [0.5, -65504.0, 0.0],
    "FP32": [0.5, -1.5, 2.0**100],
    "FP64": [0.1, -1e308, 0.0],
    "BYTES": ["", "ä€𝄞", "a\x00b"],
}


@pytest.mark.backends
def test_datatypes_pass_through_the_replica(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Each datatype survives JSON, shared memory and ONNX Runtime, joined with others; outputs come in the order asked for."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.all_datatypes(list(ELEMENTS)))
            inputs = [{"name": f"in_{name}", "shape": [1, 3], "datatype": name, "data": data} for name, data in ELEMENTS.items()]
            wanted = [{"name": f"out_{name}"} for name in reversed(ELEMENTS)]
            async with tools.connect(gateway.plane.port) as client:
                for _ in range(5):
                    client.send_post("/v2/models/m/infer", json.dumps({"inputs": inputs, "outputs": wanted}).encode())
                for _ in range(5):
                    outputs = (await client.read()).json["outputs"]
                    assert [(f"out_{name}", name, [1, 3], ELEMENTS[name]) for name in reversed(ELEMENTS)] == [
                        (output["name"], output["datatype"], output["shape"], output["data"]) for output in outputs
                    ]

    run(scenario)


def test_a_model_without_a_batch_axis_answers_each_request_alone(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Nothing is joined, whatever the sizes."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.identity("FP32", (-1,), None))
            async with tools.connect(gateway.plane.port) as client:
                for size in (1, 3, 3, 2):
                    body = {"inputs": [{"name": "x", "shape": [size], "datatype": "FP32", "data": [float(size)] * size}]}
                    client.send_post("/v2/models/m/infer", json.dumps(body).encode())
                assert [(await client.read()).data for _ in range(4)] == [[1.0], [3.0] * 3, [3.0] * 3, [2.0] * 2]
            assert (lane.tally.requests, lane.tally.batches) == (4, 4)

    run(scenario)


def test_the_protocols_paths(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Server, health, metadata, readiness and versions are where the protocol says."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway, tools.connect(gateway.plane.port) as client:
            assert (await client.get("/v2/models/m")).status == 404
            main = tools.make_lane(await gateway.add(versions.linear(2, 1), 7), "baseline")
            candidate = tools.make_lane(await gateway.add(versions.linear(3, 0), 8), "candidate", fallback=main)
            hidden = await gateway.add(versions.linear(9, 0), 9)
            gateway.route(main, candidate, share=0.0)
            assert (await client.get("/v2")).json["name"] == "lastgood"
            assert (await client.get("/v2/health/live")).json == {"live": True}
            assert (await client.get("/v2/health/ready")).json == {"ready": True}
            about = (await client.get("/v2/models/m")).json
            assert about["versions"] == ["7", "8"]
            assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
            assert (await client.get("/v2/models/m/ready")).json == {"name": "m", "ready": True}
            assert (await client.get("/v2/models/m/versions/8/ready")).status == 200
            assert (await client.get("/v2/models/m/versions/8")).json["inputs"] == about["inputs"]
            reply = await client.infer([1, 1, 1], path="m/versions/8")
            assert (reply.data, reply.headers["x-lastgood-version"], reply.headers["x-lastgood-role"]) == ([3, 3, 3], "8", "live")
            assert (main.tally.requests, candidate.tally.requests) == (0, 0)
            reply = await client.infer([1, 1, 1], path=f"m/versions/{hidden.number}")
            assert (reply.status, reply.json["error"]) == (404, "m has no version '9' in its route; there are: 7, 8.")
            reply = await client.infer([1, 1, 1], path="other")
            assert (reply.status, reply.json["error"]) == (404, "No model 'other' is served here; there are: m.")
            assert (await client.infer([1, 1, 1], path="%6d")).data == [3, 3, 3]
            assert (await client.get("/v2/models/m/infer")).status == 405
            gateway.reception.remove_route("m")
            assert (await client.infer([1, 1, 1])).status == 404

    run(scenario)


def test_ids_and_outputs_that_were_asked_for(run: Run, versions: "Versions", tools: "Tools") -> None:
    """An id is echoed, or made and never the same; outputs can be chosen; parameters are taken."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            await gateway.serve(versions.linear())
            async with tools.connect(gateway.plane.port) as client:
                tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [[1, 2, 3]], "parameters": {"a": 1}}
                body = {"id": "mine", "inputs": [tensor], "outputs": [{"name": "y"}], "parameters": {"b": True}}
                reply = await client.post("/v2/models/m/infer", json.dumps(body).encode())
                assert reply.json == {
                    "model_name": "m",
                    "model_version": "1",
                    "id": "mine",
                    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [3.0, 5.0, 7.0]}],
                }
                unnamed = {"id": "", "inputs": [tensor]}  # as Triton's client writes what has none
                assert (await client.post("/v2/models/m/infer", json.dumps(unnamed).encode())).json["id"]
                ids = {(await client.infer([1, 2, 3])).json["id"] for _ in range(10)}
                assert len(ids) == 10

    run(scenario)


bodies = st.binary(max_size=40) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries({"inputs": inner})
        | st.fixed_dictionaries({"name": st.just("x"), "data": inner})
    ),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


def test_garbage_bodies_are_4xx_and_the_connection_stays_in_step(run: Run, versions: "Versions", tools: "Tools") -> None:
    """Between garbage each right request gets its right answer, and nothing of it is charged to the version."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.linear())
            collected: list[bytes] = []

            @settings(max_examples=80, database=None, suppress_health_check=[HealthCheck.nested_given, HealthCheck.too_slow])
            @given(bodies)
            def collect(body: bytes) -> None:
                collected.append(body)

            collect()
            async with tools.connect(gateway.plane.port) as client:
                for number, body in enumerate(collected):
                    client.send_post("/v2/models/m/infer", body)
                    client.send_post(
                        "/v2/models/m/infer",
                        b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [%d, 0, 0]}]}' % number,
                    )
                    reply = await client.read()
                    assert (reply.status, bool(reply.json["error"])) == (400, True), body
                    assert [2 * number + 1, 1, 1] == (await client.read()).data
            assert (len(collected), 0) == (lane.tally.requests, lane.tally.failed)
            assert gateway.deaths == []

    run(scenario)


def test_a_token_keeps_everybody_else_out(run: Run, versions: "Versions", tools: "Tools") -> None:
    """With a token only health is open; without one only loopback is listened on."""
    with pytest.raises(OpenAddressError, match=r"0\.0\.0\.0 can be reached"):
        DataPlane(Reception(), "0.0.0.0", 0)

    async def scenario() -> None:
        async with tools.open_gateway(token="secret") as gateway:
            await gateway.serve(versions.linear())
            async with tools.connect(gateway.plane.port) as client:
                assert (await client.get("/v2/health/ready")).status == 200
                assert (await client.get("/v2/models/m")).status == 401
                assert (await client.infer([1, 2, 3])).status == 401
                assert (await client.infer([1, 2, 3], headers="authorization: Bearer secre\r\n")).status == 401
                assert (await client.infer([1, 2, 3], headers="authorization: Bearer secret\r\n")).status == 200

    run(scenario)


@pytest.mark.backends
def test_metrics_say_what_happened(run: Run, versions: "Versions", tools: "Tools") -> None:
    """A scrape has every family with its labels, also of a version that serves no more."""

    async def scenario() -> None:
        async with tools.open_gateway() as gateway:
            lane = await gateway.serve(versions.linear())
            registry = CollectorRegistry()
            registry.register(gateway.reception.collector)
            async with tools.connect(gateway.plane.port) as client:
                for _ in range(3):
                    await client.infer([1, 2, 3], headers="x-lastgood-traffic: evaluation\r\n")
                await client.post("/v2/models/m/infer", b"{}")
            text = generate_latest(registry).decode()
            for line in (
                'lastgood_requests_total{model="m",outcome="ok",role="live",traffic="evaluation",version="1"} 3.0',
                'lastgood_requests_total{model="m",outcome="bad_request",role="live",traffic="production",version="1"} 1.0',
                'lastgood_request_seconds_count{model="m",role="live",version="1"} 3.0',
                'lastgood_queue_seconds_count{model="m",role="live",version="1"} 3.0',
                'lastgood_compute_seconds_count{model="m",role="live",version="1"} 3.0',
                'lastgood_batch_rows_bucket{le="1.0",model="m",role="live",version="1"} 3.0',
                'lastgood_replica_ready{model="m",version="1"} 1.0',
                'lastgood_replica_info{model="m",provider="cpu",replicas="1",threads="1",version="1"} 1.0',
                'lastgood_queue_depth{model="m",version="1"} 0.0',
                'lastgood_replica_deaths_total{model="m",version="1"} 0.0',
            ):
                assert line in text
            gateway.reception.remove_pool(gateway.pools[0])
            after = generate_latest(registry).decode()
            assert 'outcome="ok",role="live",traffic="evaluation",version="1"} 3.0' in after
            assert "lastgood_replica_ready{" not in after
            assert lane.tally.requests == 3

    run(scenario)


def test_traffic_labels_are_bounded() -> None:
    """What a client sends becomes a label only if it is a name, and only seven times."""
    labels = TrafficLabels("production")
    assert [labels.label(name) for name in (None, b"", b"A B", b"x" * 33)] == ["production", "production", "production", "production"]
    assert [f"n{number}" for number in range(7)] == [labels.label(b"n%d" % number) for number in range(7)]
    assert [labels.label(name) for name in (b"n7", b"n3", b"production")] == ["other", "n3", "production"]
