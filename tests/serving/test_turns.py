"""What many connections send at once is taken in turns."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from lastgood.serving.gateway.http.messages import Request, Respond, json_response
from lastgood.serving.gateway.http.server import Server
from lastgood.serving.gateway.limits import HttpLimits

Run = Callable[[Callable[[], Awaitable[None]]], None]
CONNECTIONS, DEEP = 30, 60


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


def test_one_request_does_not_wait_for_all_that_others_sent_at_once(tools: Any, run: Run) -> None:
    """30 connections with 60 requests each are there before it; all are answered, each connection's in their order."""
    order: list[str] = []

    def handle(request: Request, respond: Respond) -> None:
        order.append(request.path)
        respond(json_response({"path": request.path}))

    async def scenario() -> None:
        server = Server(handle)
        await server.start()
        clients = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(CONNECTIONS)]
        async with tools.connect(server.port) as quiet:
            assert 200 == (await quiet.get("/first")).status
            order.clear()
            for number, (_, writer) in enumerate(clients):
                writer.write(b"".join(get(f"/{number}/{own}") for own in range(DEEP)))
            assert {"path": "/quiet"} == (await quiet.get("/quiet")).json
        for number, (reader, writer) in enumerate(clients):
            for own in range(DEEP):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                assert f'{{"path":"/{number}/{own}"}}' == (await reader.readexactly(length)).decode().replace(" ", "")
            writer.close()
        await server.stop(1)

    run(scenario)
    assert CONNECTIONS * DEEP + 1 == len(order)
    in_a_tick = CONNECTIONS + HttpLimits().tick_requests
    assert order.index("/quiet") <= 3 * in_a_tick  # of 1,800; it may come while two ticks have begun


def test_a_connection_that_sends_far_more_than_its_turn_is_read_no_further(tools: Any, run: Run) -> None:
    """What waits for its turn is bounded by what the kernel holds, and nothing of it is lost."""
    seen = [0]

    def handle(request: Request, respond: Respond) -> None:
        seen[0] += 1
        respond(json_response({"path": request.path}))

    async def scenario() -> None:
        server = Server(handle, limits=HttpLimits(tick_requests=1))
        await server.start()
        async with tools.connect(server.port) as client:
            for number in range(5000):
                client.send(get(f"/{number}"))
            for number in range(5000):
                assert {"path": f"/{number}"} == (await client.read()).json
        await server.stop(1)

    run(scenario)
    assert 5000 == seen[0]
